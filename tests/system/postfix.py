"""Postfix as a client: an instance of its own, below one directory, that sends all mail to a relay over TLS only.

Mail is put in by its own smtpd, on a loopback port. The system's Postfix, if there is one, is not touched.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import smtplib
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.system.pki import Credential
from tests.system.waiting import PATIENCE, free_port, wait_for

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"

MAIN = """\
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
command_directory = /usr/sbin
daemon_directory = {daemons}
mail_owner = postfix
setgid_group = postdrop
myhostname = client.test
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_peername_lookup = no
smtpd_relay_restrictions = permit_mynetworks, reject
relayhost = [127.0.0.1]:{relay}
smtp_tls_security_level = encrypt
smtp_tls_chain_files = {credential}
transport_maps = inline:{{ {{ {plain} = nobody:[127.0.0.1]:{relay} }} }}
notify_classes =
maillog_file = {directory}/maillog
maillog_file_prefixes = {directory}
"""

SERVICES = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
nobody unix - - n - - smtp
    -o smtp_tls_chain_files=
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """Started by `start`, ended by `stop`. For the domain `plain` it shows no certificate, for others `credential`."""

    def __init__(self, directory: Path, relay: int, credential: Credential, plain: str) -> None:
        """Skips the test if it cannot run here."""
        postfix = shutil.which("postfix", path=PATH)
        if postfix is None or os.getuid() != 0:
            pytest.skip("Postfix is not installed (scripts/system-packages), or we are not root")
        self._command = [postfix, "-c", str(directory), "start-fg"]
        self._directory = directory
        self._log = directory / "maillog"
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        daemons = subprocess.run(
            ["postconf", "-h", "daemon_directory"], env={"PATH": PATH}, capture_output=True, text=True, check=True
        )
        settings = {
            "directory": directory,
            "daemons": daemons.stdout.strip(),
            "relay": relay,
            "credential": credential.write(directory / "client.pem"),
            "plain": plain,
        }
        (directory / "main.cf").write_text(MAIN.format(**settings))
        (directory / "master.cf").write_text(SERVICES.format(port=self._port))
        for name in ("queue", "data"):
            (directory / name).mkdir()
        shutil.chown(directory / "data", "postfix")
        for above in (directory, *directory.parents):  # its processes are users of their own
            if above.stat().st_mode & 0o011 != 0o011:
                above.chmod(above.stat().st_mode | 0o011)

    def start(self, *prefix: str) -> None:
        """`prefix`: a program that runs it."""
        with (self._directory / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [*prefix, *self._command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        wait_for(self._greets, "Postfix")

    def stop(self) -> None:
        if self._process is not None:
            # Its master is in a session of its own.
            subprocess.run([*self._command[:3], "stop"], env={"PATH": PATH}, check=False, capture_output=True)
            for number in (signal.SIGTERM, signal.SIGKILL):
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(10)

    def _greets(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._directory / "output").read_text(errors="replace")
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), PATIENCE) as probe:
            probe.settimeout(PATIENCE)
            return probe.recv(4) == b"220 "
        return False

    def send(self, sender: str, recipient: str, content: str) -> None:
        with smtplib.SMTP("127.0.0.1", self._port, "here.test", timeout=PATIENCE) as client:
            client.sendmail(sender, [recipient], content)

    def wait_for_log(self, *texts: str) -> None:
        """One line of the log that has all of these, in this order; blanks are wherever Postfix left them."""
        parts = [r"\s+".join(re.escape(word) for word in text.split()) for text in texts]
        pattern = re.compile(".*".join(parts))
        wait_for(lambda: self._log.exists() and pattern.search(self._log.read_text(errors="replace")), f"{texts!r}")
