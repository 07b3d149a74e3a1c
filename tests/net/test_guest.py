"""What a client is answered while the settings change, and when it logs in."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable

import pytest
from argon2 import PasswordHasher
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from qmtls.net.doors import Door, Role
from qmtls.net.guest import JUDGED_SECONDS
from qmtls.net.passwords import CannotTell
from qmtls.tls.pin import certificate_digest
from tests.control.directory import write
from tests.net import certs
from tests.net.certs import Leaf, authority
from tests.net.house import PLAIN, Client, Files, Site, with_tls

MakeSite = Callable[[Files], Site]

NO_CERT = "553 5.7.1 sorry, that domain isn't in my list of allowed rcpthosts; no valid cert for gatewaying"
ALICE = authority().leaf("alice", email="alice@a.example")
HASH = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash("secret")
USERS: Files = {**with_tls(), "users": f"joe {HASH}\n"}


def reload(site: Site, **changes: str | bytes | None) -> None:
    """As the worker does it; None removes a file."""
    files = {name.replace("__", "."): content for name, content in changes.items()}
    for name in [name for name, content in files.items() if content is None]:
        (site.control / name).unlink()
    write(site.control, {name: content for name, content in files.items() if content is not None})
    site.snapshot = site.make({})


def alice(site: Site, leaf: Leaf = ALICE) -> Client:
    client = site.client()
    client.start_tls(certs.context(leaf))
    client.say("EHLO c.example")
    return client


def far(client: Client) -> str:
    """One transaction: what a recipient elsewhere is answered."""
    client.say("MAIL FROM:<s@c.example>")
    answer = client.say("RCPT TO:<far@away.example>")
    client.say("RSET")
    return answer


# ---------------------------------------------------------------- reloads in open sessions


def test_a_rule_that_is_removed_and_comes_back(make_site: MakeSite) -> None:
    site = make_site(with_tls())
    client = alice(site)
    assert far(client).startswith("250")
    reload(site, tlsclients="bob@a.example\n")
    assert far(client) == f"{NO_CERT}: email address not in my list of tlsclients"
    assert 'identity judged again client=192.0.2.1 rules="" reason=email address not in my list' in site.log[-2]
    reload(site, tlsclients="alice@a.example\n")
    assert far(client).startswith("250")
    assert site.log[-1] == 'identity judged again client=192.0.2.1 rules="alice@a.example"'


def test_within_a_transaction_nothing_changes(make_site: MakeSite) -> None:
    site = make_site(with_tls())
    client = alice(site)
    client.say("MAIL FROM:<s@c.example>")
    reload(site, tlsclients="bob@a.example\n")
    assert client.say("RCPT TO:<far@away.example>").startswith("250")
    client.say("RSET")
    assert far(client).startswith("553")


def test_a_certificate_revoked_in_an_open_session(make_site: MakeSite) -> None:
    site = make_site(with_tls(clientcrl__pem=authority().crl()))
    client = alice(site)
    assert far(client).startswith("250")
    reload(site, clientcrl__pem=authority().crl(ALICE))
    assert far(client) == f"{NO_CERT}: revoked"
    reload(site, clientcrl__pem=authority().crl())
    assert far(client).startswith("250")


def test_revoked_also_where_its_key_is_the_rule(make_site: MakeSite) -> None:
    other = authority("another")
    leaf = other.leaf(days=-3)
    site = make_site(with_tls(tlsclients=f"sha256:{certificate_digest(leaf.cert).hex()}\n"))
    client = alice(site, leaf)
    assert far(client).startswith("250")
    reload(site, clientcrl__pem=authority().crl() + other.crl(leaf))
    assert far(client) == f"{NO_CERT}: revoked"


def test_a_first_revocation_list_that_has_expired(make_site: MakeSite) -> None:
    site = make_site(with_tls())
    client = alice(site)
    reload(site, clientcrl__pem=authority().crl(days=-1))
    assert far(client) == f"{NO_CERT}: the revocation list of its CA has expired"


def test_a_ca_that_is_trusted_no_more(make_site: MakeSite) -> None:
    site = make_site(with_tls())
    client = alice(site)
    reload(site, clientca__pem=authority("another").pem)
    assert far(client) == f"{NO_CERT}: unknown issuer"
    reload(site, clientca__pem=None)
    assert far(client) == f"{NO_CERT}: not in my list of tlsclients"


def test_what_the_handshake_did_not_verify_stays_so(make_site: MakeSite) -> None:
    """Its extended key usage, say, was looked at there only."""
    stranger = authority("another").leaf(email="alice@a.example")
    site = make_site(with_tls())
    client = alice(site, stranger)
    reload(site, clientca__pem=authority("another").pem)
    assert far(client) == f"{NO_CERT}: unknown issuer"
    assert far(alice(site, stranger)).startswith("250")


def test_a_rule_for_the_key_comes_later(make_site: MakeSite) -> None:
    stranger = authority("another").leaf()
    site = make_site(with_tls())
    client = alice(site, stranger)
    assert far(client).startswith("553")
    reload(site, tlsclients=f"sha256:{certificate_digest(stranger.cert).hex()}\n")
    assert far(client).startswith("250")


def test_networks_and_domains_too(make_site: MakeSite) -> None:
    site = make_site(PLAIN)
    client = site.client()
    client.say("EHLO c.example")
    assert far(client).startswith("553")
    reload(site, relaynetworks="192.0.2.0/24\n")
    assert far(client).startswith("250")
    reload(site, relaynetworks="198.51.100.0/24\n", rcpthosts="away.example\n")
    assert far(client).startswith("250")


def test_a_session_that_lasts_is_judged_again(make_site: MakeSite) -> None:
    """The list expires without a reload: nobody changed a file."""
    site = make_site(with_tls(clientcrl__pem=authority().crl(), timeoutsmtpd="86400\n"))
    client = alice(site)
    assert far(client).startswith("250")
    store = site.snapshot.server.store
    assert store is not None
    store.set_time(certs.NOW.replace(tzinfo=None) + 20 * certs.DAY)
    assert far(client).startswith("250")
    site.reactor.rightNow += JUDGED_SECONDS + 1
    assert far(client) == f"{NO_CERT}: the revocation list of its CA has expired"


def test_starttls_keeps_what_ehlo_promised(make_site: MakeSite) -> None:
    """Also if the certificate is gone by then."""
    site = make_site(with_tls())
    client = site.client()
    assert "STARTTLS" in client.say("EHLO c.example")
    site.snapshot = site.make({})
    reload(site, servercert__pem=None)
    client.say("MAIL FROM:<>", "RSET")
    assert client.say("STARTTLS") == "220 ready for tls"
    client.shake()
    assert client.secured
    assert "STARTTLS" not in site.client().say("EHLO c.example")


# ---------------------------------------------------------------- scopes


def test_a_scope_with_a_size(make_site: MakeSite) -> None:
    site = make_site(with_tls(tlsclients="alice@a.example size=1K\n"))
    client = alice(site)
    client.say("MAIL FROM:<s@c.example> SIZE=2000")
    assert client.say("RCPT TO:<far@away.example>").startswith("552 5.3.4")
    client.say("RSET", "MAIL FROM:<s@c.example>", "RCPT TO:<far@away.example>", "DATA")
    assert client.say("x" * 900, "y" * 900, ".").startswith("552 5.3.4")
    client.say("MAIL FROM:<s@c.example>", "RCPT TO:<r@there.example>", "DATA")
    assert client.say("x" * 900, "y" * 900, ".").startswith("250")


def test_a_scope_with_a_rate_is_charged_once_a_message(make_site: MakeSite) -> None:
    site = make_site(with_tls(tlsclients="alice@a.example rate=2/h\n"))
    client = alice(site)
    for _ in range(2):
        client.say("MAIL FROM:<s@c.example>")
        for number in range(3):
            assert client.say(f"RCPT TO:<r{number}@away.example>").startswith("250")
        client.say("DATA", "x", ".")
    client.say("MAIL FROM:<s@c.example>")
    assert client.say("RCPT TO:<far@away.example>").startswith("450 4.7.1 too many messages")
    assert client.say("RCPT TO:<r@there.example>").startswith("250")


def test_the_ledger_hears_of_relayed_messages(make_site: MakeSite) -> None:
    site = make_site(with_tls())
    client = alice(site)
    client.begin("s@c.example", "far@away.example")
    client.say("DATA", "hello", ".")
    client.begin("s@c.example", "r@there.example")
    client.say("DATA", "hello", ".")
    (seen,) = site.seen
    assert (seen.rule, seen.address, seen.octets) == ("alice@a.example", "192.0.2.1", 7)
    assert seen.client.identity == "alice@a.example"
    assert seen.client.certificate == certificate_digest(ALICE.cert).hex()


# ---------------------------------------------------------------- limits


def test_messages_of_one_address(make_site: MakeSite) -> None:
    site = make_site({**PLAIN, "limits": "default messages=1/h\n"})
    client = site.client()
    client.mail()
    assert client.say("MAIL FROM:<s@c.example>").startswith("450 4.7.1 too many messages from your address")


def test_commands_of_one_address(make_site: MakeSite) -> None:
    site = make_site({**PLAIN, "limits": "default commands=5/m\n"})
    client = site.client()
    client.say("EHLO c.example", "NOOP", "NOOP", "NOOP")
    assert client.say("NOOP", "NOOP", "NOOP").split("|")[-1].startswith("421 4.7.0 too many commands")
    assert client.lost is not None


def test_a_message_too_large_for_the_disk(site: Site) -> None:
    client = site.client()
    client.say("EHLO c.example")
    site.room = 1000
    assert client.say("MAIL FROM:<s@c.example> SIZE=1001").startswith("452 4.3.1")
    assert client.say("MAIL FROM:<s@c.example> SIZE=1000").startswith("250")
    assert client.say("RSET", "MAIL FROM:<s@c.example>").endswith("|250 2.1.0 ok")


# ---------------------------------------------------------------- AUTH


def plain(user: str, password: str, identity: str = "") -> str:
    return "AUTH PLAIN " + b64encode(f"{identity}\0{user}\0{password}".encode()).decode()


def joe(site: Site, role: Role = Role.SUBMISSION) -> Client:
    client = site.client(door=Door(role))
    client.start_tls()
    assert "AUTH PLAIN LOGIN" in client.say("EHLO c.example")
    return client


def test_a_user_with_a_password(make_site: MakeSite) -> None:
    site = make_site(USERS)
    client = joe(site)
    assert client.say("MAIL FROM:<s@c.example>").startswith("530 5.7.0")
    assert client.say(plain("joe", "secret")) == "235 2.7.0 welcome"
    assert "AUTH" not in client.say("EHLO c.example")
    client.begin("s@c.example", "far@away.example")
    client.say("DATA", "x", ".")
    assert site.offered[0].envelope.arrival.identity == "joe"
    assert site.seen[0].client.identity == "joe"
    assert b"(cert" not in site.content(site.stored[0])


@pytest.mark.parametrize(
    "attempt", [("joe", "wrong"), ("nobody", "secret"), ("joe", "secret", "alice"), ("joe", "SECRET")]
)
def test_what_is_not_right(make_site: MakeSite, attempt: tuple[str, ...]) -> None:
    site = make_site(USERS)
    client = joe(site)
    assert client.say(plain(*attempt)).startswith("535 5.7.8")
    assert client.say("MAIL FROM:<s@c.example>").startswith("530")
    assert any(line.startswith("login refused client=192.0.2.1 mechanism=PLAIN user=") for line in site.log)
    assert not any(attempt[1] in line for line in site.log), "no password in the log"
    assert client.say(plain("JOE", "secret", "joe")).startswith("235")


def test_login(make_site: MakeSite) -> None:
    client = joe(make_site(USERS))
    assert client.say("AUTH LOGIN").startswith("334")
    assert client.say(b64encode(b"joe").decode()).startswith("334")
    assert client.say(b64encode(b"secret").decode()).startswith("235")


def test_a_name_that_failed_writes_nothing_but_itself_into_the_log(make_site: MakeSite) -> None:
    site = make_site(USERS)
    client = joe(site)
    name = 'joe" relay="x\r\n2026-01-01T00:00:00.000Z accepted id=1 ü' + "y" * 900
    assert client.say(plain(name, "secret")).startswith("535")
    assert site.log[-1].startswith('login refused client=192.0.2.1 mechanism=PLAIN user="joe? relay=?x??2026-')
    assert site.log[-1].isascii() and site.log[-1].isprintable() and len(site.log[-1]) < 250


def test_a_password_that_cannot_be_looked_at(make_site: MakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    site = make_site(USERS)
    client = joe(site)
    trouble = Failure(CannotTell("50 passwords are in line"))
    monkeypatch.setattr(site.house.passwords, "verify", lambda *args: fail(trouble))
    assert client.say(plain("joe", "secret")).startswith("454 4.7.0")


def test_a_client_gone_while_its_password_is_looked_at(make_site: MakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    site = make_site(USERS)
    client = joe(site)
    looking: Deferred[object] = Deferred()
    monkeypatch.setattr(site.house.passwords, "verify", lambda *args: looking)
    client.send((plain("joe", "secret") + "\r\nNOOP\r\n").encode())
    client.transport.abortConnection()  # type: ignore[union-attr]
    site.reactor.run()
    looking.callback(site.snapshot.settings.users["joe"].rule)
    assert not site.connections


def test_what_comes_behind_a_login_waits_for_it(make_site: MakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    site = make_site(USERS)
    client = joe(site)
    looking: Deferred[object] = Deferred()
    monkeypatch.setattr(site.house.passwords, "verify", lambda *args: looking)
    assert client.say(plain("joe", "secret"), "MAIL FROM:<s@c.example>") == ""
    looking.callback(site.snapshot.settings.users["joe"].rule)
    site.reactor.run()
    assert client.replies == ["235 2.7.0 welcome", "250 2.1.0 ok"]


def test_guesses_have_a_rate(make_site: MakeSite) -> None:
    site = make_site({**USERS, "limits": "default logins=3/h errors=100\n"})
    client = joe(site)
    for _ in range(3):
        assert client.say(plain("joe", "wrong")).startswith("535")
    assert client.say(plain("joe", "secret")).startswith(("421", "450", "454"))


def test_right_ones_have_none(make_site: MakeSite) -> None:
    site = make_site({**USERS, "limits": "default logins=3/h\n"})
    for _ in range(10):
        assert joe(site).say(plain("joe", "secret")).startswith("235")


@pytest.mark.parametrize("users", ["ann {hash}\n", "joe {other}\n"])
def test_a_user_removed_or_with_another_password(make_site: MakeSite, users: str) -> None:
    site = make_site(USERS)
    client = joe(site)
    client.say(plain("joe", "secret"))
    assert client.say("MAIL FROM:<s@c.example>", "RSET").startswith("250")
    other = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash("other")
    reload(site, users=users.format(hash=HASH, other=other))
    assert client.say("MAIL FROM:<s@c.example>").startswith("530 5.7.0")


def test_a_certificate_as_login(make_site: MakeSite) -> None:
    site = make_site(with_tls())
    client = site.client(door=Door(Role.SUBMISSION))
    client.start_tls(certs.context(ALICE))
    assert "AUTH EXTERNAL" in client.say("EHLO c.example")
    other = b64encode(b"bob@a.example").decode()
    assert client.say(f"AUTH EXTERNAL {other}").startswith("535 5.7.8")
    assert client.say("AUTH EXTERNAL =").startswith("235")
    assert client.mail().startswith("250")


def test_external_by_name(make_site: MakeSite) -> None:
    site = make_site(with_tls(tlsclients="alice@a.example label=gate\n"))
    for name in ("Alice@a.example", "gate"):
        client = alice(site)
        assert client.say(f"AUTH EXTERNAL {b64encode(name.encode()).decode()}").startswith("235")


@pytest.mark.parametrize("leaf", [None, authority().leaf(email="bob@a.example")])
def test_no_login_by_a_certificate_that_no_rule_names(make_site: MakeSite, leaf: Leaf | None) -> None:
    client = make_site(with_tls()).client()
    client.start_tls(certs.context(leaf))
    assert "AUTH" not in client.say("EHLO c.example")
    assert client.say("AUTH EXTERNAL =").startswith("502")


def test_no_login_in_plaintext(make_site: MakeSite) -> None:
    client = make_site(USERS).client()
    assert "AUTH" not in client.say("EHLO c.example")
    assert client.say(plain("joe", "secret")).startswith("538")
