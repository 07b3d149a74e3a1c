"""Mail to a real LMTP server, Dovecot's: on a socket, over TCP with TLS, and an answer for each recipient."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system.house import House
from tests.system.outbound.handing import hand_in, open_to_all, wait_for_reasons
from tests.system.pki import Authority
from tests.system.waiting import PATIENCE, free_port, wait_for

PLACES = "/usr/sbin:/usr/local/sbin:/sbin:" + os.environ.get("PATH", "")
NOBODY = 65534

CONFIG = """\
base_dir = {directory}/run
protocols = lmtp
log_path = {directory}/log
default_login_user = nobody
default_internal_user = nobody
default_internal_group = nogroup
ssl = yes
ssl_cert = <{directory}/cert.pem
ssl_key = <{directory}/key.pem
mail_location = maildir:~/Maildir
recipient_delimiter = +
mail_plugins = quota
passdb {{
  driver = passwd-file
  args = username_format=%n {directory}/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%n {directory}/users
}}
plugin {{
  quota = count:User quota
  quota_vsizes = yes
}}
mailbox_list_index = yes
quota_full_tempfail = yes
service lmtp {{
  unix_listener {directory}/lmtp {{
    mode = 0666
  }}
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
"""


@dataclass(frozen=True)
class Dovecot:
    directory: Path
    port: int

    @property
    def socket(self) -> Path:
        return self.directory / "lmtp"

    def mail(self, user: str) -> list[bytes]:
        return [path.read_bytes() for path in (self.directory / f"home/{user}/Maildir/new").glob("*")]


@pytest.fixture
def dovecot(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Dovecot]:
    """bob, ann, and full, who has no room."""
    program = shutil.which("dovecot", path=PLACES)
    if program is None or not Path("/usr/lib/dovecot/lmtp").exists():
        pytest.skip("Dovecot's LMTP server is not installed (scripts/system-packages)")
    if os.getuid() != 0:
        pytest.skip("Dovecot starts as root only")
    directory = tmp_path_factory.mktemp("d")  # a socket's path is short
    for above in (directory, *directory.parents):
        if above.stat().st_mode & 0o011 != 0o011:
            above.chmod(above.stat().st_mode | 0o011)
    server = authority.server("peer.test", "127.0.0.1")
    (directory / "cert.pem").write_bytes(server.pem)
    (directory / "key.pem").write_bytes(server.key_pem)
    users = []
    for user in ("bob", "ann", "full"):
        home = directory / "home" / user
        home.mkdir(parents=True)
        os.chown(home, NOBODY, NOBODY)
        rule = " userdb_quota_rule=*:bytes=100" if user == "full" else ""
        users.append(f"{user}:{{PLAIN}}x:{NOBODY}:{NOBODY}::{home}::{rule}\n")
    (directory / "users").write_text("".join(users))
    port = free_port()
    (directory / "dovecot.conf").write_text(CONFIG.format(directory=directory, port=port))
    command = [program, "-F", "-c", str(directory / "dovecot.conf")]
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        wait_for((directory / "lmtp").exists, "Dovecot")
        yield Dovecot(directory, port)
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


def test_a_socket_and_an_answer_for_each(house: House, dovecot: Dovecot) -> None:
    open_to_all(house, f"peer.test:lmtp:unix:{dovecot.socket}")
    house.start()
    big = b"Subject: big\r\n\r\n.dot\r\n" + b"x" * 70 + b"\r\n" * 20
    hand_in(house, "bob@peer.test", "full@peer.test", "ann+list@peer.test", contents=[big])
    reasons = wait_for_reasons(house)
    ((to, row),) = reasons.items()
    assert to == "full@peer.test" and str(dovecot.socket) in row["reason"] and "uota" in row["reason"]
    assert row["to"] == ["full@peer.test"]
    (for_bob,), (for_ann,) = dovecot.mail("bob"), dovecot.mail("ann")
    assert b"\n.dot\n" in for_bob.replace(b"\r\n", b"\n")
    assert b"Subject: big" in for_ann
    assert not dovecot.mail("full")
    house.qmtls("queue", "remove", row["id"])


def test_nobody(house: House, dovecot: Dovecot) -> None:
    open_to_all(house, f"peer.test:lmtp:unix:{dovecot.socket}")
    house.start()
    hand_in(house, "nobody@peer.test", "bob@peer.test", sender="postmaster@mx.test")
    (report,) = house.wait_for_mail()
    assert b"nobody@peer.test" in report and b"550" in report
    wait_for(lambda: dovecot.mail("bob"), "mail for bob")
    house.wait_for_empty_queue()


def test_tcp_with_tls(house: House, dovecot: Dovecot) -> None:
    open_to_all(house, f"peer.test:lmtp:127.0.0.1:{dovecot.port}")
    house.control("peer.test.pem", (dovecot.directory / "cert.pem").read_bytes())
    house.start()
    hand_in(house, "bob@peer.test", contents=[b"Subject: %d\r\n\r\nhello\r\n" % n for n in range(5)])
    wait_for(lambda: len(dovecot.mail("bob")) == 5, "mail for bob")
    assert "TLSv1." in house.wait_for_log(r"delivered .*bob@peer\.test.*").group(0)
    house.wait_for_empty_queue()
