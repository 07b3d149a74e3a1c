"""What EHLO offers in each state, that it works, and that the queue keeps it: SMTPUTF8, DSN, REQUIRETLS, AUTH."""

from __future__ import annotations

import shutil
import ssl
import subprocess

import pytest

from qmtls.smtp.envelope import Envelope
from qmtls.spool.record import decode_envelope
from tests.system.client import SmtpClient
from tests.system.house import House
from tests.system.waiting import PATIENCE

ALWAYS = {
    "PIPELINING",
    "SIZE 0",
    "8BITMIME",
    "SMTPUTF8",
    "ENHANCEDSTATUSCODES",
    "DSN",
    "CHUNKING",
    "LIMITS RCPTMAX=1000",
}
FAR = "ann@elsewhere.test"


@pytest.fixture(scope="module")
def relay(standing_house: House) -> House:
    """Remote mail is held, so that its queue file can be read."""
    house = standing_house
    house.control("concurrencyremote", "0\n")
    house.control("relaynetworks", "127.0.0.0/8\n")
    house.control("tlsclients", "joe@client.test\n")
    house.start()
    house.qmtls("user", "add", "ann", stdin=b"correct horse\n")
    house.reload()
    return house


def offered(client: SmtpClient) -> set[str]:
    return set(client.command("EHLO client.test", 250).lines[1:])


def stored(house: House, answer: str) -> bytes:
    """The queue file of the message that was accepted with that answer."""
    (path,) = (path for path in house.messages() if path.name == answer.split()[-1])
    return path.read_bytes()


def envelope(house: House, answer: str) -> Envelope:
    """What it says about the message."""
    head, end, _ = stored(house, answer).partition(b"}\r\n")
    return decode_envelope(head + end)


def send(client: SmtpClient, mail: str, rcpt: str, content: bytes = b"Subject: x\r\n\r\nhello\r\n") -> str:
    client.command(f"MAIL FROM:{mail}", 250)
    client.command(f"RCPT TO:{rcpt}", 250)
    client.command("DATA", 354)
    client.send(content + b".\r\n")
    return str(client.expect(250))


def test_what_is_offered_in_each_state(relay: House, as_joe: ssl.SSLContext, anonymous: ssl.SSLContext) -> None:
    with SmtpClient(relay.port) as client:
        assert offered(client) == ALWAYS | {"STARTTLS"}
        client.command("MAIL FROM:<joe@client.test> REQUIRETLS", 555)
        client.command("AUTH PLAIN AGFubgB4", 538)
    for context, mechanisms in ((anonymous, "AUTH PLAIN LOGIN"), (as_joe, "AUTH EXTERNAL PLAIN LOGIN")):
        with SmtpClient(relay.port) as client:
            client.starttls(context)
            assert offered(client) == ALWAYS | {"REQUIRETLS", mechanisms}


def test_addresses_beyond_ascii(relay: House) -> None:
    with SmtpClient(relay.port) as client:
        client.command("EHLO client.test", 250)
        client.command("MAIL FROM:<jörg@client.test>", 553)
        client.command("MAIL FROM:<jörg@client.test> SMTPUTF8", 250)
        client.command("RCPT TO:<änn@bücher.test>", 250)
        client.command("DATA", 354)
        client.send("Subject: Grüße\r\n\r\nhello\r\n.\r\n".encode())
        answer = str(client.expect(250))
    found = envelope(relay, answer)
    assert found.smtputf8
    assert (str(found.reverse_path), str(found.recipients[0].address)) == ("jörg@client.test", "änn@bücher.test")
    assert b"with UTF8SMTP\r\n" in stored(relay, answer)


def test_reports_that_are_asked_for(relay: House) -> None:
    with SmtpClient(relay.port) as client:
        client.command("EHLO client.test", 250)
        answer = send(
            client,
            "<joe@client.test> RET=HDRS ENVID=x+2By",
            f"<{FAR}> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;ann@old.test",
        )
        found = envelope(relay, answer)
        assert dict(found.parameters) == {"RET": "HDRS", "ENVID": "x+2By"}
        assert dict(found.recipients[0].parameters) == {"NOTIFY": "SUCCESS,FAILURE", "ORCPT": "rfc822;ann@old.test"}
        for bad in ("RET=ALL", "NOTIFY=NEVER,SUCCESS", "ORCPT=nonsense", "NOTIFY=SOMETIMES"):
            client.command("MAIL FROM:<joe@client.test>", 250)
            assert client.command(f"RCPT TO:<{FAR}> {bad}").code in (501, 555), bad
            client.command("RSET", 250)


def test_tls_all_the_way(relay: House, as_joe: ssl.SSLContext) -> None:
    with SmtpClient(relay.port) as client:
        client.starttls(as_joe)
        found = envelope(relay, send(client, "<joe@client.test> REQUIRETLS", f"<{FAR}>"))
        assert found.requiretls
        loose = b"Subject: x\r\nTLS-Required: No\r\n\r\nhello\r\n"
        found = envelope(relay, send(client, "<joe@client.test>", f"<{FAR}>", loose))
        assert found.tls_optional
        found = envelope(relay, send(client, "<joe@client.test> REQUIRETLS", f"<{FAR}>", loose))
        assert found.requiretls and not found.tls_optional


# ---------------------------------------------------------------- AUTH


def swaks(relay: House, *auth: str) -> str:
    program = shutil.which("swaks") or pytest.skip("swaks is not installed: scripts/system-packages")
    perl = subprocess.run(["perl", "-MNet::SSLeay", "-e", "1"], capture_output=True, check=False)
    if perl.returncode:
        pytest.skip("swaks has no TLS without libnet-ssleay-perl: scripts/system-packages")
    server = ["--server", f"127.0.0.1:{relay.port}", "--ehlo", "client.test", "--from", "joe@client.test", "--to", FAR]
    done = subprocess.run([program, *server, *auth], capture_output=True, text=True, check=False, timeout=PATIENCE)
    return done.stdout + done.stderr


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_swaks_with_a_password(relay: House, mechanism: str) -> None:
    right = ["--auth", mechanism, "--auth-user", "ann", "--auth-password", "correct horse"]
    said = swaks(relay, "--tls", *right)
    assert "<~  235 2.7.0 " in said and "<~  250 2.0.0 ok " in said
    assert b"with ESMTPSA " in stored(relay, said.partition("<~  250 2.0.0 ok ")[2].split("\n")[0])
    wrong = [*right[:-1], "wrong horse"]
    assert "<~* 535 5.7.8 " in swaks(relay, "--tls", *wrong)
    assert "Host did not advertise authentication" in swaks(relay, *right)  # in plaintext


def test_no_password_in_the_log(relay: House) -> None:
    assert "horse" not in relay.log()


def test_a_certificate_as_login(relay: House, as_joe: ssl.SSLContext) -> None:
    with SmtpClient(relay.port) as client:
        client.starttls(as_joe)
        client.command("AUTH EXTERNAL =", 235)
        assert not any(line.startswith("AUTH") for line in offered(client))
        answer = str(client.mail("joe@client.test", FAR))
    assert b"with ESMTPSA " in stored(relay, answer)


# ---------------------------------------------------------------- room


def test_a_message_that_the_disk_has_no_room_for(relay: House) -> None:
    free = shutil.disk_usage(relay.home).free
    with SmtpClient(relay.port) as client:
        client.command("EHLO client.test", 250)
        answer = client.command(f"MAIL FROM:<joe@client.test> SIZE={free + 1}", 452)
        assert answer.text.startswith("4.3.1 ")
        client.command("MAIL FROM:<joe@client.test> SIZE=1000", 250)
