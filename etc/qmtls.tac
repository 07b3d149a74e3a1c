# The service for `twistd -y etc/qmtls.tac`: change the options below, or set QMTLS_HOME.
from twisted.application.service import Application

from qmtls.tap import Options, makeService

options = Options()
options.parseOptions([])  # for example ["--home", "/var/qmtls", "--workers", "2", "--smtp", "tcp:25"]

application = Application("qmtls")
makeService(options).setServiceParent(application)
