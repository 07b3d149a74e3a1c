"""Tells twistd of `qmtls`. Imported by every twistd on the machine: keep it to this."""

from twisted.application.service import ServiceMaker

qmtls = ServiceMaker("qmtls", "qmtls.tap", "A mail transfer agent for mail that may only travel over TLS.", "qmtls")
