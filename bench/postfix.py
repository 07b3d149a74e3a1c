"""The installed Postfix as an instance of its own, with its own main.cf, master.cf, queue and data directory.

A Postfix of the system is not touched.
"""

from __future__ import annotations

import os
import shutil
import smtplib
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.servers import COMMAND_SECONDS, HOST, LARGEST, NEXT_HOP_CONNECTIONS, Server, ServerError, Setup

WAIT = "3600s"  # a full queue is filled for minutes; its first messages must not be due again before its last is in
SPARE_PROCESSES = 100
HIDDEN = 0o001  # what a directory on the way needs, so that other users may pass


class Postfix(Server):
    """Needs root."""

    name = "postfix"

    def missing(self) -> str | None:
        """Why it cannot run here, if it cannot."""
        if _program("postfix") == "postfix":
            return "Postfix is not installed"
        if os.geteuid() != 0:
            return "Postfix wants to be started by root"
        for place in (self.directory, *self.directory.parents):
            if place.exists() and not place.stat().st_mode & HIDDEN:
                return f"Postfix's own user cannot pass {place}; --state names another place"
        return None

    def version(self) -> str:
        return _postconf("mail_version")

    def write(self, setup: Setup) -> None:
        for part in ("etc", "queue", "data"):
            (self.directory / part).mkdir()
        shutil.chown(self.directory / "data", _postconf("mail_owner"))
        (self.directory / "etc/routes").write_text(
            "".join(f"{domain} smtp:[{HOST}]:{port}\n" for domain, port in self.ports.routes().items())
        )
        settings = self._settings() | (self._tls() if setup.tls else {})
        if setup.hold:
            settings["smtpd_client_restrictions"] = "check_client_access static:hold"
        if setup.recipients:
            settings["smtpd_recipient_limit"] = str(setup.recipients)
        if setup.sessions:
            settings["default_process_limit"] = str(setup.sessions + SPARE_PROCESSES)
        (self.directory / "etc/main.cf").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
        (self.directory / "etc/master.cf").write_text(_services(f"{HOST}:{self.ports.server}"))

    def _settings(self) -> dict[str, str]:
        """Defaults wherever they don't look up names, and log into our own file."""
        return {
            "compatibility_level": "3.6",
            "daemon_directory": _postconf("daemon_directory"),
            "command_directory": _postconf("command_directory"),
            "queue_directory": f"{self.directory}/queue",
            "data_directory": f"{self.directory}/data",
            "maillog_file": f"{self.directory}/log",
            "maillog_file_prefixes": str(self.directory),
            "myhostname": "server.test",
            "mydestination": "",
            "alias_maps": "",
            "alias_database": "",
            "inet_interfaces": HOST,
            "inet_protocols": "ipv4",
            "mynetworks": "127.0.0.0/8",
            "smtpd_peername_lookup": "no",
            "smtp_host_lookup": "native",
            "notify_classes": "",
            "message_size_limit": str(LARGEST),
            "mailbox_size_limit": "0",
            "transport_maps": f"texthash:{self.directory}/etc/routes",
            "smtpd_relay_restrictions": "permit_mynetworks, reject",
            "minimal_backoff_time": WAIT,
            "default_destination_concurrency_limit": str(NEXT_HOP_CONNECTIONS),
        }

    def _tls(self) -> dict[str, str]:
        certificates = self.certificates
        clients = self.directory / "etc/clients"
        clients.write_text(f"{_colons(certificates.client.fingerprint)} client\n")
        return {
            "smtpd_tls_security_level": "encrypt",
            "smtpd_tls_cert_file": str(certificates.server.cert),
            "smtpd_tls_key_file": str(certificates.server.key),
            "smtpd_tls_ask_ccert": "yes",
            "smtpd_tls_fingerprint_digest": "sha256",
            "relay_clientcerts": f"texthash:{clients}",
            "smtpd_relay_restrictions": "permit_tls_clientcerts, reject",
            "smtp_tls_security_level": "fingerprint",
            "smtp_tls_fingerprint_digest": "sha256",
            "smtp_tls_fingerprint_cert_match": _colons(certificates.sink.fingerprint),
        }

    def command(self) -> list[str]:
        return [_program("postfix"), "-c", f"{self.directory}/etc", "start-fg"]

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """By Postfix's own command: `process` is a shell that waits for the master."""
        self._run("postfix", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        command = [_program(program), "-c", f"{self.directory}/etc", *arguments]
        subprocess.run(command, capture_output=True, timeout=COMMAND_SECONDS, check=False)

    def retry_all(self) -> None:
        self._run("postqueue", "-f")

    def release(self) -> None:
        self._run("postsuper", "-H", "ALL")
        self.retry_all()

    def post(self, sender: str, recipients: Sequence[str], content: bytes) -> None:
        with smtplib.SMTP(HOST, self.ports.server, timeout=COMMAND_SECONDS) as client:
            if client.sendmail(sender, list(recipients), content):
                raise ServerError("Postfix refused some of the recipients")

    def queue_directories(self, deferred: bool) -> list[Path]:
        parts = ("deferred",) if deferred else ("maildrop", "incoming", "active", "deferred", "hold")
        return [self.directory / "queue" / part for part in parts]


def _services(listen: str) -> str:
    """master.cf: the services that relaying takes, none of them in a chroot, with Postfix's usual limits."""
    #  name, type, private, wakeup, most processes, program
    rows = [
        (listen, "inet", "n", "-", "-", "smtpd"),
        ("cleanup", "unix", "n", "-", "0", "cleanup"),
        ("qmgr", "unix", "n", "300", "1", "qmgr"),
        ("pickup", "unix", "n", "60", "1", "pickup"),
        ("tlsmgr", "unix", "-", "1000?", "1", "tlsmgr"),
        ("rewrite", "unix", "-", "-", "-", "trivial-rewrite"),
        ("bounce", "unix", "-", "-", "0", "bounce"),
        ("defer", "unix", "-", "-", "0", "bounce"),
        ("trace", "unix", "-", "-", "0", "bounce"),
        ("flush", "unix", "n", "1000?", "0", "flush"),
        ("proxymap", "unix", "-", "-", "-", "proxymap"),
        ("smtp", "unix", "-", "-", "-", "smtp"),
        ("showq", "unix", "n", "-", "-", "showq"),
        ("error", "unix", "-", "-", "-", "error"),
        ("retry", "unix", "-", "-", "-", "error"),
        ("local", "unix", "-", "-", "-", "local"),
        ("anvil", "unix", "-", "-", "1", "anvil"),
        ("scache", "unix", "-", "-", "1", "scache"),
        ("tlsproxy", "unix", "-", "-", "0", "tlsproxy"),
        ("postlog", "unix-dgram", "n", "-", "1", "postlogd"),
    ]
    unprivileged = {"local": "n"}
    return "".join(
        f"{name} {kind} {private} {unprivileged.get(name, '-')} n {wakeup} {limit} {program}\n"
        for name, kind, private, wakeup, limit, program in rows
    )


def _program(name: str) -> str:
    """Its path, or its name where it is not installed."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or name


def _postconf(name: str) -> str:
    command = [_program("postconf"), "-d", "-h", name]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _colons(fingerprint: str) -> str:
    text = fingerprint.upper()
    return ":".join(text[at : at + 2] for at in range(0, len(text), 2))
