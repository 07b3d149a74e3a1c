"""Who may relay, seen from outside: every refusal by its exact text, every permission by its trace field."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.client import SmtpClient, client_context
from tests.system.house import House
from tests.system.pki import Authority, Credential

NOT_ALLOWED = "5.7.1 sorry, that domain isn't in my list of allowed rcpthosts"
NO_CERTIFICATE = f"{NOT_ALLOWED}; no valid cert for gatewaying"
ELSEWHERE = "ann@elsewhere.test"

Show = Callable[[Credential], ssl.SSLContext]


@pytest.fixture(scope="module")
def revoked(authority: Authority) -> Credential:
    return authority.client("revoked@client.test")


@pytest.fixture(scope="module")
def by_key() -> Credential:
    """Of no CA that we know, long expired: only its digest is in tlsclients."""
    return Authority("stranger").client(days=-10)


@pytest.fixture(scope="module")
def open_house(standing_house: House, authority: Authority, revoked: Credential, by_key: Credential) -> House:
    """Remote mail is held, so what was accepted can be read in the queue."""
    house = standing_house
    house.control("concurrencyremote", "0\n")
    house.control("clientcrl.pem", authority.crl(revoked))
    rules = ["joe@client.test", "subject@client.test", "revoked@client.test"]
    rules += [f"sha256:{credential.sha256}" for credential in (by_key, revoked)]
    house.control("tlsclients", "".join(f"{rule}\n" for rule in rules))
    house.mailbox("ann")
    return house.start()


@pytest.fixture
def show(tmp_path: Path, ca_file: Path) -> Show:
    """The TLS context of a client with that certificate."""
    return lambda credential: client_context(ca_file, credential.write(tmp_path / "shown.pem"))


def rcpt(house: House, context: ssl.SSLContext | None, recipient: str = ELSEWHERE) -> str:
    with SmtpClient(house.port) as client:
        if context is not None:
            client.starttls(context)
        else:
            client.command("EHLO client.test", 250)
        client.command("MAIL FROM:<someone@client.test>", 250)
        answer = str(client.command(f"RCPT TO:<{recipient}>"))
        client.command("QUIT", 221)
    return answer


def received(house: House, context: ssl.SSLContext | None) -> str:
    """Sends one message; its trace field, unfolded."""
    before = set(house.messages())
    with SmtpClient(house.port) as client:
        if context is not None:
            client.starttls(context)
        else:
            client.command("EHLO client.test", 250)
        assert client.mail("someone@client.test", ELSEWHERE).code == 250
    (path,) = set(house.messages()) - before
    content = path.read_bytes().partition(b"}\r\n")[2]
    path.unlink()
    field = content.partition(b"\r\n\r\n")[0].replace(b"\r\n ", b" ").splitlines()[0]
    return " ".join(field.decode().split())


def test_plaintext(open_house: House) -> None:
    assert rcpt(open_house, None) == f"553 {NOT_ALLOWED}"


def test_no_certificate(open_house: House, anonymous: ssl.SSLContext) -> None:
    assert rcpt(open_house, anonymous) == f"553 {NO_CERTIFICATE}"


@pytest.mark.parametrize(
    ("reason", "make"),
    [
        ("expired", lambda ca, _: ca.client("joe@client.test", days=-10)),
        ("unknown issuer", lambda ca, _: Authority("another").client("joe@client.test")),
        ("bad signature", lambda ca, _: Authority(posing_as=ca).client("joe@client.test")),
        ("email address not in my list of tlsclients", lambda ca, _: ca.client("eve@client.test")),
        ("email address not in my list of tlsclients", lambda ca, _: ca.client("joe@client.test.evil.test")),
        ("contains no email address", lambda ca, _: ca.client()),
        ("contains no email address", lambda ca, _: ca.client(name="joe@client.test")),
        ("revoked", lambda ca, revoked: revoked),
    ],
)
def test_refusals(
    open_house: House,
    authority: Authority,
    revoked: Credential,
    show: Show,
    reason: str,
    make: Callable[[Authority, Credential], Credential],
) -> None:
    assert rcpt(open_house, show(make(authority, revoked))) == f"553 {NO_CERTIFICATE}: {reason}"
    open_house.wait_for_log(
        f"refused client=127.0.0.1 from=<someone@client.test> to=<{ELSEWHERE}> reply=553 .*{reason}$"
    )


def test_permitted_by_address(open_house: House, as_joe: ssl.SSLContext) -> None:
    field = received(open_house, as_joe)
    assert field.startswith("Received: from client.test ([127.0.0.1]) by mx.test with ESMTPS (TLSv1.3 TLS_")
    assert "(cert joe@client.test) id " in field
    assert field.partition("(TLS")[2].partition(")")[0].split()[-1].lower().startswith(("x25519", "secp", "p-256"))


def test_permitted_by_subject(open_house: House, authority: Authority, show: Show) -> None:
    assert "(cert subject@client.test)" in received(open_house, show(authority.client(subject="subject@client.test")))


def test_tls_1_2(open_house: House, ca_file: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca_file)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with SmtpClient(open_house.port) as client:
        client.starttls(context)
        assert client.mail("a@client.test", "ann@mx.test").code == 250
    (content,) = open_house.wait_for_mail(user="ann")
    field = " ".join(content.partition(b"by mx.test")[2].partition(b"\n\n")[0].decode().split())
    assert field.startswith("with ESMTPS (TLSv1.2 ECDHE-ECDSA-"), field
    assert "cert " not in field


def test_permitted_by_key_without_dates_and_ca(open_house: House, by_key: Credential, show: Show) -> None:
    assert f"(cert sha256:{by_key.sha256})" in received(open_house, show(by_key))


def test_own_domains_need_no_certificate(open_house: House, anonymous: ssl.SSLContext) -> None:
    for context in (None, anonymous):
        assert rcpt(open_house, context, "postmaster@mx.test").startswith("250 ")
        assert rcpt(open_house, context, "postmaster").startswith("250 ")
        assert rcpt(open_house, context, "postmaster@[127.0.0.1]").startswith("250 ")
        assert rcpt(open_house, context, "nobody@mx.test") == "550 5.1.1 sorry, no mailbox here by that name"


@pytest.mark.parametrize(
    "recipient",
    [
        "ann%elsewhere.test@mx.test",
        "ann%elsewhere.test@[127.0.0.1]",
        "elsewhere.test!ann@mx.test",
        '"ann@elsewhere.test"@mx.test',
        "ann@elsewhere.test@mx.test",
        "@mx.test:ann@elsewhere.test",
        "@mx.test,@mx.test:ann@elsewhere.test",
        "ann@elsewhere.test%mx.test",
        "ann@mx.test.elsewhere.test",
        "ann@elsewhere.test\\@mx.test",
        "../postmaster@mx.test",
        "postmaster/new@mx.test",
        ".@mx.test",
        "..@mx.test",
        "postmaster@[127.0.0.2]",
        "ann@[192.0.2.1]",
        "ann@.mx.test",
    ],
)
def test_tricks_do_not_relay(open_house: House, recipient: str) -> None:
    assert rcpt(open_house, None, recipient)[:3] in ("501", "550", "553"), recipient


def test_relaynetworks(house: House) -> None:
    house.control("concurrencyremote", "0\n")
    house.control("relaynetworks", "127.0.0.0/8\n")
    house.start()
    field = received(house, None)
    assert "with ESMTP " in field and "cert" not in field
    house.control("relaynetworks", "127.0.0.2/32\n::1\n192.0.2.0/24\n")
    house.reload()
    assert rcpt(house, None) == f"553 {NOT_ALLOWED}"


def test_local_delivery(house: House) -> None:
    house.mailbox("ann")
    house.start()
    with SmtpClient(house.port) as client:
        client.command("EHLO client.test", 250)
        content = b"Subject: x\r\n\r\n..one dot\r\n\xe4\xf6\r\nend\r\n"
        assert client.mail("joe@client.test", "Ann@mx.test", "postmaster@mx.test", content=content).code == 250
    for user in ("ann", "postmaster"):
        (message,) = house.wait_for_mail(user=user)
        assert b"\r" not in message
        assert message.endswith(b"Subject: x\n\n.one dot\n\xe4\xf6\nend\n")
        assert message.startswith(b"Return-Path: <joe@client.test>\n")
    house.wait_for_empty_queue()


def test_rcpthosts_opens_what_it_lists_and_nothing_more(house: House) -> None:
    house.control("rcpthosts", "mx.test\nlisted.test\n.below.test\n")
    house.control("concurrencyremote", "0\n")
    house.start()
    for domain in ("listed.test", "LISTED.test", "a.below.test", "a.b.below.test"):
        assert rcpt(house, None, f"x@{domain}").startswith("250"), domain
    for domain in ("below.test", "a.listed.test", "notlisted.test", "xbelow.test"):
        assert rcpt(house, None, f"x@{domain}") == f"553 {NOT_ALLOWED}", domain
