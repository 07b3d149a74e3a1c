"""SMTP without I/O: lines, commands, content, and the two sessions. Knows nothing of TLS, files or clocks."""
