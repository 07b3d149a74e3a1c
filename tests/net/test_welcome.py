"""Who comes in: by which door, behind a proxy, too many, too early; and what each role asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.address import UNIXAddress

from qmtls.net.doors import Door, Role
from qmtls.net.inbound import HANDSHAKE_SECONDS, HURRIED_SECONDS, HURRIED_TRANSACTION_SECONDS
from qmtls.net.welcome import CROWDED, HEADER_SECONDS, HURRY_SECONDS, Welcome
from tests.net import certs
from tests.net.certs import authority
from tests.net.house import PLAIN, Client, Files, Site, with_tls

MakeSite = Callable[[Files], Site]

BEHIND_PROXY = Door(proxied=True)
HEADER = b"PROXY TCP4 192.0.2.77 198.51.100.25 40000 25\r\n"
RELAY: Files = {**PLAIN, "relaynetworks": "192.0.2.77/32\n"}


def far(client: Client) -> str:
    """What a recipient elsewhere is answered."""
    client.say("EHLO c.example", "MAIL FROM:<s@c.example>")
    return client.say("RCPT TO:<far@away.example>")


# ---------------------------------------------------------------- behind a proxy


@pytest.mark.parametrize("segment", [0, 1, 5, 16])
def test_the_client_behind_a_proxy(make_site: MakeSite, segment: int) -> None:
    site = make_site(RELAY)
    site.reactor.segment = segment
    client = site.client("203.0.113.1", BEHIND_PROXY, HEADER)
    assert client.replies == ["220 mail.example.org ESMTP"]
    assert far(client).startswith("250")
    assert client.say("DATA", "x", ".")
    arrival = site.offered[0].envelope.arrival
    assert (arrival.client, arrival.identity) == ("192.0.2.77", "192.0.2.77/32")
    assert b"(" + b"[192.0.2.77])" in site.content(site.stored[0])


def test_a_proxy_has_no_rights_of_its_own(make_site: MakeSite) -> None:
    """It may be one of our networks: who comes through it is not."""
    site = make_site({**PLAIN, "relaynetworks": "203.0.113.0/24\n"})
    for header in (HEADER, b"PROXY UNKNOWN\r\n"):
        assert far(site.client("203.0.113.1", BEHIND_PROXY, header)).startswith("553 5.7.1")


def test_nothing_is_said_before_the_header(make_site: MakeSite) -> None:
    site = make_site(PLAIN)
    client = site.client("203.0.113.1", BEHIND_PROXY)
    assert client.replies == []
    client.send(HEADER[:10])
    assert client.replies == []
    client.send(HEADER[10:])
    assert client.replies == ["220 mail.example.org ESMTP"]


@pytest.mark.parametrize("data", [b"EHLO c.example\r\n", b"PROXY TCP4 nonsense\r\n", b"\x16\x03\x01\x02"])
def test_without_a_header_nobody_is_served(make_site: MakeSite, data: bytes) -> None:
    site = make_site(PLAIN)
    for _ in range(3):
        client = site.client("203.0.113.1", BEHIND_PROXY, data)
        assert client.lost is not None and client.got == b""
    assert not site.connections
    assert not site.reactor.getDelayedCalls()
    (line,) = site.log
    assert line.startswith("refused a connection on smtp: PROXY header: ")


def test_a_header_that_never_comes(make_site: MakeSite) -> None:
    site = make_site(PLAIN)
    client = site.client("203.0.113.1", BEHIND_PROXY, HEADER[:20])
    site.reactor.pass_time(HEADER_SECONDS - 1)
    assert client.lost is None
    assert len(site.connections) == 1
    site.reactor.pass_time(2)
    assert client.lost is not None and not site.connections


def test_a_client_gone_before_its_header(make_site: MakeSite) -> None:
    site = make_site(PLAIN)
    client = site.client("203.0.113.1", BEHIND_PROXY)
    client.transport.abortConnection()  # type: ignore[union-attr]
    site.reactor.run()
    assert not site.connections and not site.reactor.getDelayedCalls()


def test_the_service_ends_while_a_header_is_awaited(make_site: MakeSite) -> None:
    site = make_site(PLAIN)
    client = site.client("203.0.113.1", BEHIND_PROXY)
    for connection in tuple(site.connections):
        connection.shut_down()
    site.reactor.run()
    assert client.lost is not None and not site.connections


def test_the_address_that_the_client_reached(make_site: MakeSite) -> None:
    here = {"locals": "here.example\n", "localiphost": "here.example\n", "rcpthosts": "here.example\n"}
    site = make_site({**PLAIN, **here})
    site.mailboxes = lambda address: True
    client = site.client("203.0.113.1", BEHIND_PROXY, HEADER)
    client.say("EHLO c", "MAIL FROM:<>")
    assert client.say("RCPT TO:<joe@[198.51.100.25]>").startswith("250")
    assert client.say("RCPT TO:<joe@[192.0.2.25]>").startswith("553")  # where the proxy connected to


def test_tls_first_behind_a_proxy(make_site: MakeSite) -> None:
    site = make_site(with_tls())
    client = site.client("203.0.113.1", Door(Role.SMTPS, proxied=True), HEADER)
    client.shake(certs.context(authority().leaf(email="alice@a.example")))
    assert client.replies == ["220 mail.example.org ESMTP"]
    assert far(client).startswith("250")


def test_a_header_where_none_is_awaited(site: Site) -> None:
    """From the internet: whoever says so may be anybody."""
    client = site.client(says=HEADER)
    assert client.replies[0].startswith("554 5.5.1")
    late = site.client()
    late.send(HEADER)
    assert late.replies[-1].startswith("500 5.5.")


# ---------------------------------------------------------------- roles


def test_tls_from_the_first_octet(make_site: MakeSite) -> None:
    site = make_site(with_tls())
    client = site.client(door=Door(Role.SMTPS))
    assert client.replies == []
    client.shake(certs.context(authority().leaf(email="alice@a.example")))
    assert client.secured and client.replies == ["220 mail.example.org ESMTP"]
    offered = client.say("EHLO c.example")
    assert "STARTTLS" not in offered and "REQUIRETLS" in offered
    assert client.say("STARTTLS").startswith("503")
    assert client.mail().startswith("250 2.0.0 ok ")
    assert site.offered[0].envelope.arrival.protocol == "ESMTPS"


def test_plaintext_where_tls_is_first(make_site: MakeSite) -> None:
    site = make_site(with_tls())
    client = site.client(door=Door(Role.SMTPS))
    client.send(b"EHLO c.example\r\nMAIL FROM:<s@c.example>\r\n")
    assert client.lost is not None and b"250" not in client.got
    assert not site.connections


def test_silence_where_tls_is_first(make_site: MakeSite) -> None:
    site = make_site(with_tls())
    client = site.client(door=Door(Role.SMTPS))
    site.reactor.pass_time(HANDSHAKE_SECONDS + 1)
    assert client.lost is not None and not site.connections


def test_tls_first_without_a_certificate_after_a_reload(make_site: MakeSite) -> None:
    site = make_site(PLAIN)
    for _ in range(3):
        client = site.client(door=Door(Role.SMTPS))
        assert client.lost is not None and client.got == b""
    assert site.log == ["smtps without control/servercert.pem: nobody can be served"]


def test_submission_takes_nothing_without_an_identity(make_site: MakeSite) -> None:
    site = make_site({**with_tls(), "relaynetworks": "192.0.2.0/24\n"})
    plain = site.client(door=Door(Role.SUBMISSION))
    plain.say("EHLO c.example")
    assert plain.say("MAIL FROM:<s@c.example>").startswith("530 5.7.0")
    nobody = site.client(door=Door(Role.SUBMISSION))
    nobody.start_tls()
    nobody.say("EHLO c.example")
    assert nobody.say("MAIL FROM:<s@c.example>").startswith("530 5.7.0")
    alice = site.client(door=Door(Role.SUBMISSION))
    alice.start_tls(certs.context(authority().leaf(email="alice@a.example")))
    assert alice.mail().startswith("250 2.0.0 ok ")
    assert site.offered[0].envelope.arrival.identity == "alice@a.example"


# ---------------------------------------------------------------- too early, too many


@pytest.mark.parametrize("says", [b"E", b"EHLO c.example\r\nMAIL FROM:<s@c.example>\r\n", b"GET / HTTP/1.1\r\n\r\n"])
def test_who_speaks_before_the_greeting(site: Site, says: bytes) -> None:
    client = site.client(says=says)
    assert client.replies == ["554 5.5.1 you spoke before my greeting, so you do not speak SMTP"]
    assert client.lost is not None
    assert not site.connections and not site.reactor.getDelayedCalls()
    assert any(line.startswith("refused client=192.0.2.1 reply=554") for line in site.log)


def test_who_speaks_right_behind_the_proxy_header(make_site: MakeSite) -> None:
    client = make_site(PLAIN).client("203.0.113.1", BEHIND_PROXY, HEADER + b"EHLO c\r\n")
    assert client.replies == ["554 5.5.1 you spoke before my greeting, so you do not speak SMTP"]


def test_a_client_without_an_address(site: Site) -> None:
    """On a unix socket."""
    client = Client(site.reactor)
    made: Any = Welcome(site.house, 10, Door()).buildProtocol(UNIXAddress("/run/smtp"))
    site.reactor.join(client, made)
    site.reactor.run()
    assert client.mail().startswith("250")
    assert site.offered[0].envelope.arrival.client == ""


def test_too_many_of_one_address(make_site: MakeSite) -> None:
    site = make_site({**PLAIN, "limits": "default connections=2\n"})
    first, second = site.client(), site.client()
    third = site.client()
    assert third.replies[0].startswith("421 4.7.0 too many connections") and third.lost is not None
    assert site.client("192.0.2.2").replies[0].startswith("220")
    first.say("QUIT")
    assert site.client().replies[0].startswith("220")
    second.transport.abortConnection()  # type: ignore[union-attr]
    site.reactor.run()
    assert site.client().replies[0].startswith("220")


def test_too_many_of_one_address_behind_a_proxy(make_site: MakeSite) -> None:
    site = make_site({**PLAIN, "limits": "default connections=1\n"})
    assert site.client("203.0.113.1", BEHIND_PROXY, HEADER).replies[0].startswith("220")
    assert site.client("203.0.113.1", BEHIND_PROXY, HEADER).replies[0].startswith("421")
    other = HEADER.replace(b"192.0.2.77", b"192.0.2.78")
    assert site.client("203.0.113.1", BEHIND_PROXY, other).replies[0].startswith("220")


def test_one_too_many_gets_no_plaintext_where_tls_is_first(make_site: MakeSite) -> None:
    site = make_site({**with_tls(), "limits": "default connections=1\n"})
    site.client(door=Door(Role.SMTPS))
    late = site.client(door=Door(Role.SMTPS))
    assert late.lost is not None and late.got == b""


class Crowd:
    """A house with room for few."""

    MOST = 8

    def __init__(self, site: Site) -> None:
        self.site = site
        self.welcome = Welcome(site.house, self.MOST, Door())
        self.clients: list[Client] = []

    def come(self) -> Client:
        client = Client(self.site.reactor)
        self.clients.append(client)
        made: Any = self.welcome.buildProtocol(UNIXAddress(""))
        self.site.reactor.join(client, made)
        self.site.reactor.run()
        return client


def test_one_too_many_is_told(site: Site) -> None:
    crowd = Crowd(site)
    for _ in range(crowd.MOST):
        assert crowd.come().replies[0].startswith("220")
    for _ in range(3):
        late = crowd.come()
        assert late.replies == ["421 4.3.2 too many connections, try again later"] and late.lost is not None
    assert len([line for line in site.log if line.startswith("too many connections: 8")]) == 1


def test_when_connections_get_scarce_those_that_do_nothing_go(site: Site) -> None:
    crowd = Crowd(site)
    idle = [crowd.come() for _ in range(int(crowd.MOST * CROWDED) - 1)]
    busy = crowd.come()
    busy.begin()
    crowd.come()  # one that meets a crowd
    assert any("getting scarce" in line for line in site.log)
    site.reactor.pass_time(HURRIED_SECONDS + 1)
    assert all(client.lost is not None and client.replies[-1].startswith("421 4.4.2") for client in idle)
    assert busy.lost is None
    assert busy.say("DATA").startswith("354")


def test_mail_alone_does_not_hold_a_place_for_long(site: Site) -> None:
    crowd = Crowd(site)
    slow = crowd.come()
    slow.begin()
    for _ in range(int(crowd.MOST * CROWDED)):
        crowd.come()
    site.reactor.pass_time(HURRIED_TRANSACTION_SECONDS + 1)
    assert slow.lost is not None and slow.replies[-1].startswith("421 4.4.2")


def test_a_handshake_that_does_nothing_goes_too(make_site: MakeSite) -> None:
    site = make_site(with_tls())
    crowd = Crowd(site)
    silent = crowd.come()
    silent.say("EHLO c", "STARTTLS")
    for _ in range(int(crowd.MOST * CROWDED)):
        crowd.come()
    site.reactor.pass_time(HURRIED_SECONDS + 1)
    assert silent.lost is not None


def test_nobody_is_hurried_while_there_is_room(site: Site) -> None:
    crowd = Crowd(site)
    clients = [crowd.come() for _ in range(int(crowd.MOST * CROWDED))]
    site.reactor.pass_time(HURRY_SECONDS + HURRIED_SECONDS + 1)
    assert not any(client.lost for client in clients)
