"""swaks, smtplib, msmtp and Postfix deliver into qmtls over STARTTLS: let in by a certificate, refused without it."""

from __future__ import annotations

import shutil
import smtplib
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.system.house import House
from tests.system.mx import FakeMx, Message
from tests.system.pki import Authority, Credential
from tests.system.postfix import Postfix
from tests.system.waiting import PATIENCE

SENDER = "joe@client.test"
RECIPIENT = "ann@dest.test"
REFUSED = "553 5.7.1 sorry, that domain isn't in my list of allowed rcpthosts; no valid cert for gatewaying"
NOT_LISTED = f"{REFUSED}: email address not in my list of tlsclients"


@pytest.fixture(scope="module")
def mx() -> Iterator[FakeMx]:
    with FakeMx() as server:
        yield server


@pytest.fixture(scope="module")
def relay(standing_house: House, mx: FakeMx) -> House:
    """Routes dest.test to the scripted server; joe may relay."""
    standing_house.control("smtproutes", f"dest.test:127.0.0.1:{mx.port}\n")
    standing_house.control("tlsclients", f"{SENDER}\n")
    return standing_house.start()


@pytest.fixture
def eve_file(tmp_path: Path, authority: Authority) -> Path:
    """A good certificate that no rule names."""
    return authority.client("eve@client.test").write(tmp_path / "eve.pem")


def run(command: Sequence[str], stdin: str = "", status: Sequence[int] = (0,)) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode in status, f"{done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def relayed(mx: FakeMx, send: Callable[[], object]) -> Message:
    """The one message that `send` makes arrive."""
    before = len(mx.messages)
    send()
    mx.wait_for_messages(before + 1)
    (message,) = mx.messages[before:]
    assert message.sender.split()[0] == f"<{SENDER}>"
    assert message.recipients == (RECIPIENT,)
    field = message.content[message.content.index(b"by mx.test with ") :].partition(b"\r\n")[0]
    assert field.startswith((b"by mx.test with ESMTPS (TLSv1.3 ", b"by mx.test with ESMTPS (TLSv1.2 ")), field
    assert b"(cert joe@client.test)" in message.content
    return message


def need(program: str) -> str:
    return shutil.which(program) or pytest.skip(f"{program} is not installed: scripts/system-packages")


# ------------------------------------------------------------ smtplib


def smtplib_send(relay: House, context: ssl.SSLContext) -> None:
    with smtplib.SMTP("127.0.0.1", relay.port, "client.test", timeout=PATIENCE) as client:
        client.starttls(context=context)
        client.sendmail(SENDER, [RECIPIENT], "Subject: smtplib\r\n\r\n.dot\r\nlast\r\n")


def test_smtplib(relay: House, mx: FakeMx, as_joe: ssl.SSLContext, anonymous: ssl.SSLContext) -> None:
    message = relayed(mx, lambda: smtplib_send(relay, as_joe))
    assert message.content.endswith(b"Subject: smtplib\r\n\r\n.dot\r\nlast\r\n")
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        smtplib_send(relay, anonymous)
    code, text = refused.value.recipients[RECIPIENT]
    assert f"{code} {text.decode()}" == REFUSED


# ------------------------------------------------------------ openssl s_client


def test_s_client_that_asks_for_new_keys(relay: House, mx: FakeMx, joe_file: Path) -> None:
    """In the middle of a transaction, and qmtls changes its own too (RFC 8446 section 4.6.3)."""
    server = ["-connect", f"127.0.0.1:{relay.port}", "-starttls", "smtp", "-tls1_3", "-crlf", "-msg"]
    command = [need("openssl"), "s_client", *server, "-cert", str(joe_file), "-key", str(joe_file)]
    quiet, pipe = subprocess.DEVNULL, subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=quiet, text=True, bufsize=1) as client:
        to, heard_from = client.stdin, client.stdout
        assert to is not None and heard_from is not None

        def say(line: str, until: str) -> None:
            to.write(line)
            for heard in heard_from:
                if heard.startswith(until):
                    return
            pytest.fail(f"no {until!r} behind {line!r}")

        def send() -> None:
            say("EHLO client.test\n", "250 ")
            say("K\n", ">>> TLS 1.3, Handshake [length 0005], KeyUpdate")
            say(f"MAIL FROM:<{SENDER}>\n", "<<< TLS 1.3, Handshake [length 0005], KeyUpdate")
            say("", "250 ")  # each is waited for: a K that s_client reads together with another line is no order
            say(f"rcpt to:<{RECIPIENT}>\n", "250 ")  # a capital R would ask for a renegotiation
            say("K\n", ">>> TLS 1.3, Handshake [length 0005], KeyUpdate")
            say("DATA\n", "354 ")
            say("Subject: keys\n\n.\n", "250 ")

        watch = threading.Timer(PATIENCE, client.kill)
        watch.start()
        try:
            relayed(mx, send)
        finally:
            watch.cancel()
            client.kill()


# ------------------------------------------------------------ swaks


def swaks(relay: House, certificate: Path | None, status: int) -> str:
    perl = subprocess.run(["perl", "-MNet::SSLeay", "-e", "1"], capture_output=True, check=False)
    if perl.returncode:
        pytest.skip("swaks has no TLS without libnet-ssleay-perl: scripts/system-packages")
    shown = ["--tls-cert", str(certificate), "--tls-key", str(certificate)] if certificate else []
    server = ["--server", f"127.0.0.1:{relay.port}", "--ehlo", "client.test"]
    mail = ["--from", SENDER, "--to", RECIPIENT, "--header", "Subject: swaks"]
    return run([need("swaks"), *server, *mail, "--tls", *shown], status=[status])


def test_swaks(relay: House, mx: FakeMx, joe_file: Path, eve_file: Path) -> None:
    relayed(mx, lambda: swaks(relay, joe_file, 0))
    assert f"{REFUSED}\n" in swaks(relay, None, 24)
    assert f"{NOT_LISTED}\n" in swaks(relay, eve_file, 24)


# ------------------------------------------------------------ msmtp


def msmtp(relay: House, ca: Path, certificate: Path | None, status: Sequence[int]) -> str:
    shown = [f"--tls-cert-file={certificate}", f"--tls-key-file={certificate}"] if certificate else []
    server = ["--host=127.0.0.1", f"--port={relay.port}", "--domain=client.test", "--auth=off"]
    tls = ["--tls=on", "--tls-starttls=on", f"--tls-trust-file={ca}"]
    message = f"From: {SENDER}\nTo: {RECIPIENT}\nSubject: msmtp\n\nhello\n"
    command = [need("msmtp"), *server, *tls, *shown, f"--from={SENDER}", "--", RECIPIENT]
    return run(command, message, status)


def test_msmtp(relay: House, mx: FakeMx, ca_file: Path, joe_file: Path, eve_file: Path) -> None:
    relayed(mx, lambda: msmtp(relay, ca_file, joe_file, [0]))
    unavailable = range(64, 79)
    assert REFUSED in msmtp(relay, ca_file, None, unavailable)
    assert NOT_LISTED in msmtp(relay, ca_file, eve_file, unavailable)


# ------------------------------------------------------------ Postfix


def test_postfix(relay: House, mx: FakeMx, tmp_path: Path, joe: Credential) -> None:
    message = "Subject: postfix\r\n\r\nhello\r\n"
    postfix = Postfix(tmp_path, relay.port, joe, plain="plain.test")
    try:
        postfix.start()
        relayed(mx, lambda: postfix.send(SENDER, RECIPIENT, message))
        postfix.wait_for_log(f"to=<{RECIPIENT}>", "status=sent (250 2.0.0 ok ")
        postfix.send(SENDER, "ann@plain.test", message)
        postfix.wait_for_log("to=<ann@plain.test>", "status=bounced", f"said: {REFUSED} (in reply to RCPT TO command)")
    finally:
        postfix.stop()
