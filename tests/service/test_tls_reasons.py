"""What counts as waiting for TLS: the table of docs/tls.md, row by row, by whole attempts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL

from qmtls.net.resolver import DnsTrouble
from qmtls.tls.sts import StsMode, StsPolicy
from tests.net import certs
from tests.net.hosts import Host
from tests.net.house import Files
from tests.service.office import Office
from tests.service.test_lane_tls import ee, signed

RIGHT, WRONG = certs.server("mx.a.example"), certs.authority("another CA").leaf("mx.a.example")
ENCRYPT: Files = {"tlspolicy": "a.example encrypt\n"}
BAD_SIGNATURE = DnsTrouble("DNS: SERVFAIL, the signatures are bad")
LATER = {"RCPT": "450 4.2.1 later"}
ROUTE: Files = {"smtproutes": "a.example:relay.example\n", "authroutes": "relay.example joe secret\n"}

Prepare = Callable[[Office], object]


def plain(office: Office) -> None:
    office.host("mx.a.example", Host())


def wrong(office: Office) -> None:
    office.host("mx.a.example", Host(WRONG))


def breaks_off(office: Office) -> None:
    office.host("mx.a.example", Host(RIGHT, handshake="close"))


def refuses_starttls(office: Office) -> None:
    office.host("mx.a.example", Host(RIGHT, replies={"STARTTLS": "454 4.7.0 not now"}))


def classic_group(office: Office) -> None:
    """TLS 1.2 knows no hybrid one."""
    office.host("mx.a.example", Host(RIGHT, context=certs.context(RIGHT, newest=SSL.TLS1_2_VERSION)))


def only_others_have_addresses(office: Office) -> None:
    office.host("mx.a.example", Host(RIGHT))
    office.host("mx2.a.example", Host(RIGHT))
    office.names.hosts["mx.a.example"] = ()


def nobody_has_an_address(office: Office) -> None:
    office.host("mx.a.example", Host(RIGHT))
    office.names.hosts["mx.a.example"] = ()


def records_unknown(office: Office) -> None:
    office.host("mx.a.example", Host(RIGHT))
    signed(office, "mx.a.example", BAD_SIGNATURE)


def records_of_another_key(office: Office) -> None:
    office.host("mx.a.example", Host(WRONG))
    signed(office, "mx.a.example", ee(RIGHT))


def exchangers_unknown(office: Office) -> None:
    office.host("mx.a.example", Host(RIGHT))
    office.names.mail["a.example"] = BAD_SIGNATURE


def addresses_unknown(office: Office) -> None:
    office.host("mx.a.example", Host(RIGHT))
    office.names.hosts["mx.a.example"] = BAD_SIGNATURE


def not_in_the_policy(office: Office) -> None:
    office.host("mx.a.example", Host(RIGHT))
    office.policies.known["a.example"] = StsPolicy(StsMode.ENFORCE, 86400, ("other.a.example",))


def against_the_policy(office: Office) -> None:
    office.host("mx.a.example", Host(WRONG))
    office.policies.known["a.example"] = StsPolicy(StsMode.ENFORCE, 86400, ("mx.a.example",))


def closed(office: Office) -> None:
    office.host("mx.a.example", Host(RIGHT, greeting="421 4.3.2 closed"))


def busy(office: Office) -> None:
    office.host("mx.a.example", Host(RIGHT, replies=dict(LATER)))


def one_wrong_one_closed(office: Office) -> None:
    wrong(office)
    office.host("mx2.a.example", Host(RIGHT, greeting="421 4.3.2 closed"))


def one_plain_one_busy(office: Office) -> None:
    office.host("mx1.a.example", Host())
    office.host("mx2.a.example", Host(RIGHT, replies=dict(LATER)))


def relay(office: Office) -> None:
    office.names.hosts["relay.example"] = "192.0.2.99"
    host = Host(certs.server("relay.example"), ehlo=("there", "AUTH PLAIN"), replies={"AUTH": "535 5.7.8 no"})
    office.reactor.hosts["192.0.2.99", 25] = host.accept


PINNED: Files = {"a.example.pem": RIGHT.pem}
RELAY_PIN: Files = {**ROUTE, "relay.example.pem": certs.server("relay.example").pem}
TO_RELAY: Files = {**ROUTE, "tlspolicy": "a.example encrypt\n"}

FOR_TLS: dict[str, tuple[Files, Prepare, dict[str, Any]]] = {
    "no STARTTLS": (ENCRYPT, plain, {}),
    "STARTTLS refused": (ENCRYPT, refuses_starttls, {}),
    "handshake fails": (ENCRYPT, breaks_off, {}),
    "chain or name": ({"tlspolicy": "a.example secure\n"}, wrong, {}),
    "key not pinned": (PINNED, wrong, {}),
    "pin file unusable": ({"a.example.pem": ""}, wrong, {}),
    "pinned hosts gone": ({"mx.a.example.pem": RIGHT.pem}, only_others_have_addresses, {}),
    "group": ({"tlspolicy": "a.example encrypt pq=require\n"}, classic_group, {}),
    "TLSA look-up": ({}, records_unknown, {}),
    "TLSA records": ({}, records_of_another_key, {}),
    "dane-only without records": ({"tlspolicy": "a.example dane-only\n"}, wrong, {}),
    "MTA-STS passes it over": ({}, not_in_the_policy, {}),
    "MTA-STS certificate": ({}, against_the_policy, {}),
    "sts without a policy": ({"tlspolicy": "a.example sts\n"}, wrong, {}),
    "REQUIRETLS": ({}, wrong, {"requiretls": True}),
    "login": (TO_RELAY, relay, {}),
    "one host wrong, one closed": (PINNED, one_wrong_one_closed, {}),
}
FOR_OTHERS: dict[str, tuple[Files, Prepare, dict[str, Any]]] = {
    "MX look-up": (PINNED, exchangers_unknown, {}),
    "address look-up": (PINNED, addresses_unknown, {}),
    "no address at all": ({"mx.a.example.pem": RIGHT.pem}, nobody_has_an_address, {}),
    "closed": (PINNED, closed, {}),
    "busy": (PINNED, busy, {}),
    "one passes and is busy": (ENCRYPT, one_plain_one_busy, {}),
    "login refused": (RELAY_PIN, relay, {}),
}


def attempt(path: Path, row: tuple[Files, Prepare, dict[str, Any]]) -> tuple[Office, str]:
    files, prepare, message = row
    office = Office(path, {**files, "queuelifetime": "100000\n", "policylifetime": "200\n"})
    prepare(office)
    id = office.post("x@a.example", **message)
    office.run()
    return office, id


@pytest.mark.parametrize("what", FOR_TLS)
def test_it_waits_for_tls(tmp_path: Path, what: str) -> None:
    office, id = attempt(tmp_path, FOR_TLS[what])
    (entry,) = office.history(id)
    assert entry.unmet == entry.deferred == (0,), entry.reasons
    assert len(office.relayer.retester) == 1
    office.pass_time(1000)
    assert id not in office.ids_stored, "its own lifetime"
    (line,) = office.said(f"failed id={id} ")
    assert "no connection has met that demand since" in line
    assert office.said("report")


@pytest.mark.parametrize("what", FOR_OTHERS)
def test_it_waits_for_something_else(tmp_path: Path, what: str) -> None:
    office, id = attempt(tmp_path, FOR_OTHERS[what])
    (entry,) = office.history(id)
    assert entry.unmet == () and entry.deferred == (0,), entry.reasons
    assert not len(office.relayer.retester)
    office.pass_time(1000)
    assert office.ids_stored == [id]


def test_requiretls_that_no_host_knows_comes_back_at_once(tmp_path: Path) -> None:
    office = Office(tmp_path)
    office.host("mx.a.example", Host(RIGHT))
    signed(office, "mx.a.example", ee(RIGHT))
    id = office.post("x@a.example", requiretls=True)
    office.run()
    assert id not in office.ids_stored and "status=5.7.30" in office.said(f"failed id={id} ")[0]


def test_and_waits_for_tls_if_a_host_could_not_be_asked_for_that_reason(tmp_path: Path) -> None:
    office = Office(tmp_path)
    office.host("mx1.a.example", Host(RIGHT))
    signed(office, "mx1.a.example", ee(RIGHT))
    office.host("mx2.a.example", Host(WRONG))
    id = office.post("x@a.example", requiretls=True)
    office.run()
    assert office.history(id)[0].unmet == (0,)
