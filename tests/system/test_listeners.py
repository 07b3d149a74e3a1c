"""Every kind of listening socket: by role, behind a proxy, IPv6, a unix socket, from systemd; also with workers."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import pytest

from tests.system.client import SmtpClient, client_context
from tests.system.house import House
from tests.system.pki import Authority
from tests.system.waiting import PATIENCE, free_port, wait_for

NO_RELAY = "553 5.7.1 sorry, that domain isn't in my list of allowed rcpthosts"
V2 = b"\r\n\r\n\0\r\nQUIT\n"


class Ports:
    """A house that listens in every way; `smtp` is the one that all tests know."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.smtps, self.submission, self.proxied, self.proxied_tls, self.second = (free_port() for _ in range(5))
        self.unix = house.home / "smtp.sock"
        lines = [
            f"smtp tcp:{house.port}:interface=127.0.0.1",
            f"smtp tcp:{self.second}:interface=127.0.0.2",
            f"smtp tcp6:{house.port}:interface=\\:\\:1",
            f"smtps tcp:{self.smtps}:interface=127.0.0.1",
            f"submission tcp:{self.submission}:interface=127.0.0.1",
            f"smtp haproxy:tcp:{self.proxied}:interface=127.0.0.1",
            f"smtps haproxy:tcp:{self.proxied_tls}:interface=127.0.0.1",
            f"smtp unix:{self.unix}",
        ]
        house.control("listen", "".join(f"{line}\n" for line in lines))
        house.control("concurrencyremote", "0\n")
        house.control("tlsclients", "joe@client.test\n")
        house.control("relaynetworks", "127.0.0.0/8\n192.0.2.77/32\n2001:db8::77/128\n")


@pytest.fixture(scope="module", params=["1", "2"], ids=["one process", "two workers"])
def ports(request: pytest.FixtureRequest, standing_house: House) -> Iterator[Ports]:
    made = Ports(standing_house)
    standing_house.start("--workers", request.param)
    yield made
    assert standing_house.stop() == 0


def rcpt(client: SmtpClient, recipient: str = "ann@elsewhere.test") -> str:
    client.command("EHLO client.test", 250)
    client.command("MAIL FROM:<joe@client.test>", 250)
    return str(client.command(f"RCPT TO:<{recipient}>"))


def over_tls(port: int, context: ssl.SSLContext, before: bytes = b"") -> SmtpClient:
    """TLS from the first octet, behind what a proxy says."""
    client = SmtpClient(port, greeting=False)
    client.send(before)
    client.handshake(context)
    client.expect(220)
    return client


def v1(address: str, family: str = "TCP4", ours: str = "127.0.0.1") -> bytes:
    return f"PROXY {family} {address} {ours} 40000 25\r\n".encode()


def v2(address: str, ours: str, family: int, kind: socket.AddressFamily) -> bytes:
    body = socket.inet_pton(kind, address) + socket.inet_pton(kind, ours) + b"\x9c\x40\x00\x19"
    return V2 + bytes([0x21, family]) + len(body).to_bytes(2, "big") + body


# ---------------------------------------------------------------- roles


def test_smtps(ports: Ports, as_joe: ssl.SSLContext, anonymous: ssl.SSLContext) -> None:
    with over_tls(ports.smtps, as_joe) as client:
        offered = client.command("EHLO client.test", 250).lines
        assert "STARTTLS" not in offered and "REQUIRETLS" in offered and "AUTH EXTERNAL" in offered
        assert client.mail("joe@client.test", "postmaster@mx.test").code == 250
    ports.house.wait_for_mail()
    with SmtpClient(ports.smtps, greeting=False) as client:
        client.send(b"EHLO client.test\r\nMAIL FROM:<joe@client.test>\r\n")
        assert b"250" not in client.read_to_end()
    with over_tls(ports.smtps, anonymous) as client:
        assert rcpt(client).startswith("250")  # by its network


def test_submission(ports: Ports, as_joe: ssl.SSLContext, anonymous: ssl.SSLContext) -> None:
    with SmtpClient(ports.submission) as client:
        client.command("EHLO client.test", 250)
        assert client.command("MAIL FROM:<joe@client.test>", 530).text.startswith("5.7.0")
    with SmtpClient(ports.submission) as client:
        client.starttls(anonymous)
        assert client.command("MAIL FROM:<joe@client.test>", 530).text.startswith("5.7.0")
    with SmtpClient(ports.submission) as client:
        client.starttls(as_joe)
        content = b"From: joe@client.test\r\nSubject: submitted\r\n\r\nhello\r\n"
        assert client.mail("joe@client.test", "postmaster@mx.test", content=content).code == 250

    def submitted() -> list[bytes]:
        return [mail for mail in ports.house.delivered() if b"Subject: submitted" in mail]

    message = message_from_bytes(wait_for(submitted, "the submitted message")[0])
    assert message["Date"] and message["Message-ID"].endswith("@mx.test>")


def test_other_roles_complete_nothing(ports: Ports) -> None:
    with SmtpClient(ports.house.port) as client:
        client.command("EHLO client.test", 250)
        assert client.mail("joe@client.test", "postmaster@mx.test", content=b"Subject: bare\r\n\r\n").code == 250
    bare = wait_for(lambda: [m for m in ports.house.delivered() if b"Subject: bare" in m], "the bare message")[0]
    assert b"Message-ID" not in bare


def test_several_of_one_role_and_over_ipv6(ports: Ports) -> None:
    for host, port in (("127.0.0.1", ports.house.port), ("127.0.0.2", ports.second)):
        with SmtpClient(port, host=host) as client:
            assert rcpt(client).startswith("250")
    with SmtpClient(ports.house.port, host="::1") as client:
        assert rcpt(client) == f"553 {NO_RELAY[4:]}"  # ::1 is in no network
        assert str(client.command("RCPT TO:<postmaster@[IPv6:::1]>")).startswith("250")


def test_a_unix_socket(ports: Ports) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(str(ports.unix))
        assert sock.recv(100).startswith(b"220 ")
        sock.sendall(b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<ann@elsewhere.test>\r\nQUIT\r\n")
        said = b"".join(iter(lambda: sock.recv(4096), b""))
    assert b"\r\n553 5.7.1" in said  # it has no address, so it is in no network


# ---------------------------------------------------------------- behind a proxy


@pytest.mark.parametrize(
    ("header", "answer"),
    [
        (v1("192.0.2.77"), "250"),
        (v1("192.0.2.78"), "553"),
        (v1("127.0.0.1"), "250"),
        (v1("2001:db8::77", "TCP6", "2001:db8::1"), "250"),
        (v2("192.0.2.77", "192.0.2.1", 0x11, socket.AF_INET), "250"),
        (v2("192.0.2.78", "192.0.2.1", 0x11, socket.AF_INET), "553"),
        (v2("2001:db8::77", "2001:db8::1", 0x21, socket.AF_INET6), "250"),
        (v2("::ffff:192.0.2.77", "::1", 0x21, socket.AF_INET6), "250"),
        (b"PROXY UNKNOWN\r\n", "553"),
        (V2 + b"\x20\x00\x00\x00", "553"),
    ],
)
@pytest.mark.parametrize("size", [0, 7])
def test_the_client_counts_and_not_the_proxy(ports: Ports, header: bytes, answer: str, size: int) -> None:
    with SmtpClient(ports.proxied, greeting=False) as client:
        client.send(header, size)
        client.expect(220)
        assert rcpt(client).startswith(answer)


def test_tls_first_behind_a_proxy(ports: Ports, as_joe: ssl.SSLContext) -> None:
    with over_tls(ports.proxied_tls, as_joe, v1("198.51.100.9")) as client:
        client.command("EHLO client.test", 250)
        assert client.mail("joe@client.test", "postmaster@mx.test", content=b"Subject: proxied\r\n\r\n").code == 250
    found = wait_for(lambda: [m for m in ports.house.delivered() if b"Subject: proxied" in m], "the message")[0]
    assert b"([198.51.100.9])" in found
    ports.house.wait_for_log("accepted id=.* client=198.51.100.9 ")


@pytest.mark.parametrize("data", [b"EHLO client.test\r\n", b"PROXY TCP4 127.0.0.1\r\n", b"GET / HTTP/1.1\r\n\r\n"])
def test_without_the_header_nobody_is_served(ports: Ports, data: bytes) -> None:
    with SmtpClient(ports.proxied, greeting=False) as client:
        client.send(data)
        assert client.read_to_end() == b""


def test_a_header_that_nobody_asked_for(ports: Ports) -> None:
    """From the internet: it gives no rights, and says that something is wired wrongly."""
    with SmtpClient(ports.house.port) as client:
        client.send(v1("192.0.2.77"))
        assert client.answer().code == 500


# ---------------------------------------------------------------- starts


@pytest.mark.parametrize("role", ["smtps", "submission"])
def test_a_role_without_a_certificate_does_not_start(house: House, role: str) -> None:
    house.control("servercert.pem", None)
    house.control("listen", f"smtp tcp:{house.port}:interface=127.0.0.1\n{role} tcp:{free_port()}\n")
    done = house.try_to_start()
    assert done.returncode == 1
    assert f"control/listen:2: {role} is of no use without a certificate; put key and certificate into" in done.stderr


def test_the_admin_role_is_refused_by_name(house: House) -> None:
    done = house.try_to_start("--admin", "tcp:8080")
    assert done.returncode == 1
    assert "--admin: the role admin is not supported by this version" in done.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("prefix", ["", "haproxy:"])
def test_sockets_of_systemd(house: House, workers: str, prefix: str) -> None:
    """Handed over as systemd does: descriptors from 3 on, told to this very process."""
    house.control("listen", f"smtp {prefix}systemd:domain=INET:name=mail\nsmtp systemd:domain=UNIX:index=1\n")
    path = house.home / "from-systemd.sock"
    with socket.create_server(("127.0.0.1", house.port)) as inet, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(path))
        unix.listen()
        fds = (inet.fileno(), unix.fileno())
        process = _as_systemd(house, fds, "--workers", workers)
        try:
            with SmtpClient(house.port, greeting=False) as client:
                if prefix:
                    client.send(v1("192.0.2.77"))
                client.expect(220)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(PATIENCE)
                sock.connect(str(path))
                assert sock.recv(4) == b"220 "
        finally:
            os.kill(process, 15)
            assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    assert path.exists(), "it is systemd's: the next start needs it"


def _as_systemd(house: House, fds: tuple[int, int], *arguments: str) -> int:
    command = house.command(*arguments)
    environment = {**house.environment(), "LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": "mail:local"}
    pid = os.fork()
    if pid:
        return pid
    try:  # nothing but system calls from here on
        high = [os.dup(fd) for fd in fds]
        for place, fd in enumerate(high, 3):
            os.dup2(fd, place)
        log = os.open(str(house.output), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(house.home)
        os.execve(command[0], command, {**environment, "LISTEN_PID": str(os.getpid())})
    finally:
        os._exit(127)


# ---------------------------------------------------------------- the certificate that is asked for


def test_certificates_by_name(house: House, authority: Authority, ca_file: Path, as_joe: ssl.SSLContext) -> None:
    house.control("servercerts/second.test.pem", authority.server("second.test").bundle)
    house.control("servercerts/_.wild.test.pem", authority.server("*.wild.test").bundle)
    house.control("tlsclients", "joe@client.test\n")
    house.control("concurrencyremote", "0\n")
    house.start()
    for name in ("mx.test", "second.test", "any.wild.test"):
        with SmtpClient(house.port) as client:
            client.starttls(as_joe, name)  # the name is verified
            assert rcpt(client).startswith("250"), f"joe is known whichever name he asks for: {name}"
    for name in ("elsewhere.test", "a.b.wild.test", "wild.test"):
        assert shown(house, name) == {"mx.test", "localhost"}, name
    # Half of a pair is never served: the key is there, its certificate not yet.
    new = authority.server("second.test", "third.test")
    after = len(house.log())
    house.control("servercerts/second.test.pem", new.key_pem)
    house.wait_for_log("reload failed, the old settings stay: control/servercerts/second.test.pem: ", after=after)
    assert shown(house, "second.test") == {"second.test"}
    house.control("servercerts/second.test.pem", new.bundle)
    wait_for(lambda: shown(house, "second.test") == {"second.test", "third.test"}, "the new pair")


def shown(house: House, name: str) -> set[str]:
    """The names in the certificate that a client is shown who asks for this one."""
    context = client_context(house.home / "control/clientca.pem")
    context.check_hostname = False
    with SmtpClient(house.port) as client:
        client.starttls(context, name)
        assert isinstance(client.socket, ssl.SSLSocket)
        found = client.socket.getpeercert() or {}
    names = found.get("subjectAltName", ())
    assert isinstance(names, tuple)
    return {str(one[1]) for one in names if one[0] == "DNS"}


# ---------------------------------------------------------------- who speaks first


def test_who_speaks_before_the_greeting(house: House) -> None:
    """The octets are there before the service looks: it is stopped while they come."""
    house.start()
    with socket.socket() as sock:
        sock.settimeout(PATIENCE)
        os.kill(house.pid, 19)
        sock.connect(("127.0.0.1", house.port))
        sock.sendall(b"EHLO spam.test\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster@mx.test>\r\nDATA\r\n")
        os.kill(house.pid, 18)
        said = b"".join(iter(lambda: sock.recv(4096), b""))
    assert said == b"554 5.5.1 you spoke before my greeting, so you do not speak SMTP\r\n"
    house.wait_for_log("refused client=127.0.0.1 reply=554 5.5.1")
    with SmtpClient(house.port) as client:
        assert rcpt(client, "postmaster@mx.test").startswith("250")
