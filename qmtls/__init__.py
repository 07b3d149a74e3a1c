"""qmtls: a mail transfer agent for mail that may only travel over TLS between parties that know each other."""

__version__ = "0.1.0"
