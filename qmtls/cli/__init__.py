"""The `qmtls` command."""
