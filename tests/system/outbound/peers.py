"""Foreign mail servers as next hops: each a process of its own on a free port, with its files below one directory.

They take mail with STARTTLS and relay all of it, in plaintext, to a Sink of the test: so what they were given
can be compared octet for octet. Not installed: the test is skipped with the reason. No system daemon is touched.
"""

from __future__ import annotations

import os
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system.house import ROOT
from tests.system.pki import Credential
from tests.system.waiting import PATIENCE, free_port, wait_for

UNPACKED = ROOT / ".venv/peers"
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"

EXIM = """\
primary_hostname = peer.test
exim_path = {exim}
spool_directory = {directory}/spool
log_file_path = {directory}/%slog
pid_file_path = {directory}/exim.pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
tls_advertise_hosts = *
tls_certificate = {directory}/cert.pem
tls_privatekey = {directory}/key.pem
acl_smtp_rcpt = accept
host_lookup =
rfc1413_hosts =
keep_environment = LD_LIBRARY_PATH
deliver_drop_privilege
disable_ipv6
message_size_limit = 80M
begin routers
all:
  driver = manualroute
  route_list = * 127.0.0.1
  self = send
  transport = out
begin transports
out:
  driver = smtp
  port = {relay}
  hosts_avoid_tls = *
  message_linelength_limit = 1000000
begin retry
* * F,2h,1m
"""

POSTFIX = """\
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
command_directory = /usr/sbin
daemon_directory = {daemons}
mail_owner = postfix
setgid_group = postdrop
myhostname = peer.test
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_peername_lookup = no
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_tls_security_level = may
smtpd_tls_cert_file = {directory}/cert.pem
smtpd_tls_key_file = {directory}/key.pem
smtp_tls_security_level = none
smtp_line_length_limit = 0
message_size_limit = 83886080
relayhost = [127.0.0.1]:{relay}
maillog_file = {directory}/maillog
maillog_file_prefixes = {directory}
"""

POSTFIX_SERVICES = """\
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
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""

OPENSMTPD = """\
pki peer cert "{directory}/cert.pem"
pki peer key "{directory}/key.pem"
smtp max-message-size 80M
listen on 127.0.0.1 port {port} tls pki peer hostname peer.test
action out relay host "smtp+notls://127.0.0.1:{relay}"
match from any for any action out
"""

# Its queue and control socket have fixed places: it gets its own of these in a mount namespace.
OPENSMTPD_START = """\
set -e
for directory in /var/spool /var/lib /run; do mount -t tmpfs tmpfs $directory; done
mkdir -p /var/lib/opensmtpd/empty
mkdir -m 711 /var/spool/smtpd
exec "$@"
"""

# The one of Debian 13 runs in its own tree, where it finds these, and its files in /mnt. It insists on some CA.
OPENSMTPD_7_START = """\
set -e
root=$1 directory=$2
for part in etc/ssl run var/lib var/spool; do mount -t tmpfs tmpfs "$root/$part"; done
mkdir -p "$root/var/lib/opensmtpd/empty" "$root/etc/ssl/certs"
mkdir -m 711 "$root/var/spool/smtpd"
cp "$directory/cert.pem" "$root/etc/ssl/certs/ca-certificates.crt"
mount --rbind /dev "$root/dev"
mount --bind "$directory" "$root/mnt"
exec chroot "$root" /usr/sbin/smtpd -d -f /mnt/smtpd.conf
"""


@dataclass(frozen=True, slots=True)
class Peer:
    name: str
    port: int
    log: Path

    @property
    def has_working_tls(self) -> bool:
        """A handshake by somebody else than us: Debian 12's OpenSMTPD cannot do any with OpenSSL 3."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with smtplib.SMTP("127.0.0.1", self.port, timeout=PATIENCE) as client:
            try:
                return client.starttls(context=context)[0] == 220
            except (ssl.SSLError, ConnectionError):
                client.close()
                return False


@contextmanager
def running(name: str, credential: Credential, directory: Path, relay: int, settings: str = "") -> Iterator[Peer]:
    """The server `name` with this certificate; what it takes it relays to 127.0.0.1:`relay`.

    `settings`: more lines of Postfix's main.cf.
    """
    if os.getuid() != 0:
        pytest.skip(f"{name} starts as root only")
    directory.mkdir()
    _open_to_others(directory)
    (directory / "cert.pem").write_bytes(credential.pem)
    (directory / "key.pem").write_bytes(credential.key_pem)
    (directory / "key.pem").chmod(0o600)
    port = free_port()
    command = _COMMANDS[name](directory, port, relay)
    if settings:
        with (directory / "etc/main.cf").open("a") as more:
            more.write(settings)
    output = directory / "output"
    with output.open("wb") as written:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
            cwd=directory,
            env=_with_libraries(name),
            start_new_session=True,
        )
    try:
        wait_for(lambda: _greets(port, process, output), f"{name} on port {port}")
        yield Peer(name, port, output)
    finally:
        if name == "postfix":  # its master is in a session of its own
            subprocess.run([*command[:3], "stop"], env={"PATH": PATH}, check=False, capture_output=True)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def smtp_sink(directory: Path) -> Iterator[int]:
    """Postfix's smtp-sink, plaintext only, writing each message into `directory`; its port."""
    port = free_port()
    command = [_program("smtp-sink"), "-d", "%M.", f"127.0.0.1:{port}", "512"]
    if os.getuid() == 0:
        _open_to_others(directory)
        shutil.chown(directory, "nobody")
        command[1:1] = ["-u", "nobody"]
    output = directory.parent / "smtp-sink.output"
    with output.open("wb") as written:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=written, stderr=written, cwd=directory)
    try:
        wait_for(lambda: _greets(port, process, output), "smtp-sink")
        yield port
    finally:
        process.kill()
        process.wait()


def _open_to_others(directory: Path) -> None:
    """Servers read their files as users of their own, and pytest's directories are its user's only."""
    for above in (directory, *directory.parents):
        if above.stat().st_mode & 0o011 != 0o011:
            above.chmod(above.stat().st_mode | 0o011)


def _greets(port: int, process: subprocess.Popen[bytes], output: Path) -> bool:
    assert process.poll() is None, f"it ended: {output.read_text(errors='replace')}"
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), PATIENCE) as probe:
        probe.settimeout(PATIENCE)
        return probe.recv(4) == b"220 "
    return False


def _program(*places: Path | str) -> str:
    for place in places:
        found = shutil.which(place, path=PATH)
        if found is not None:
            return found
    return pytest.skip(f"{Path(places[-1]).name} is not installed (scripts/system-packages)")


def _with_libraries(name: str) -> dict[str, str]:
    """Our environment, with the shared libraries that were unpacked beside the server."""
    if name == "opensmtpd-7":
        return {**os.environ}  # it finds them in its tree
    found = [str(path) for path in UNPACKED.joinpath(name).glob("**/lib/*-linux-*") if path.is_dir()]
    known = os.environ.get("LD_LIBRARY_PATH")
    return (
        {**os.environ, "LD_LIBRARY_PATH": ":".join([*found, *([known] if known else [])])} if found else {**os.environ}
    )


def _exim(directory: Path, port: int, relay: int) -> list[str]:
    exim = _program(UNPACKED / "exim/usr/sbin/exim4", "exim4", "exim")
    (directory / "spool").mkdir()
    for path in (directory, *directory.iterdir()):
        shutil.chown(path, "Debian-exim", "Debian-exim")
    config = directory / "exim.conf"  # root's own, or Exim does not believe it
    config.write_text(EXIM.format(exim=exim, directory=directory, port=port, relay=relay))
    return [exim, "-C", str(config), "-bdf"]


def _postfix(directory: Path, port: int, relay: int) -> list[str]:
    postfix = _program("postfix")
    daemons = subprocess.run(["postconf", "-h", "daemon_directory"], env={"PATH": PATH}, capture_output=True, text=True)
    (directory / "queue").mkdir()
    (directory / "data").mkdir()
    shutil.chown(directory / "data", "postfix")
    etc = directory / "etc"
    etc.mkdir()
    (etc / "main.cf").write_text(POSTFIX.format(directory=directory, daemons=daemons.stdout.strip(), relay=relay))
    (etc / "master.cf").write_text(POSTFIX_SERVICES.format(port=port))
    return [postfix, "-c", str(etc), "start-fg"]


def _opensmtpd(directory: Path, port: int, relay: int) -> list[str]:
    smtpd = _program(UNPACKED / "opensmtpd/usr/sbin/smtpd", "smtpd")
    _need_mounts()
    config = directory / "smtpd.conf"
    config.write_text(OPENSMTPD.format(directory=directory, port=port, relay=relay))
    start = directory / "start"
    start.write_text(OPENSMTPD_START)
    return ["unshare", "-m", "sh", str(start), smtpd, "-d", "-f", str(config)]


def _opensmtpd_7(directory: Path, port: int, relay: int) -> list[str]:
    tree = UNPACKED / "opensmtpd-7"
    if not (tree / "usr/sbin/smtpd").exists():
        pytest.skip("OpenSMTPD 7 is not unpacked: scripts/system-packages does it, where apt reaches Debian 13")
    _need_mounts()
    (directory / "smtpd.conf").write_text(OPENSMTPD.format(directory="/mnt", port=port, relay=relay))
    start = directory / "start"
    start.write_text(OPENSMTPD_7_START)
    return ["unshare", "-m", "sh", str(start), str(tree), str(directory)]


def _need_mounts() -> None:
    if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("opensmtpd needs a mount namespace of its own, which this system does not give")


_COMMANDS = {"exim": _exim, "postfix": _postfix, "opensmtpd": _opensmtpd, "opensmtpd-7": _opensmtpd_7}
