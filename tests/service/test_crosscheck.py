from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from qmtls.control.findings import Finding
from qmtls.net.resolver import DnsTrouble
from qmtls.service.crosscheck import cross_check
from qmtls.tls.dane import Tlsa
from qmtls.tls.pin import certificate_digest, key_digest
from qmtls.tls.sts import StsMode, StsPolicy
from tests.control.directory import compiled
from tests.net.doubles import Names, Policies
from tests.tls.pki import certificate, host, pem

LEAF, CA = host("mx.a.example"), certificate("ca", ca=True)
OTHER = Tlsa(3, 1, 1, bytes(32))


class Case:
    def __init__(self, path: Path, *pins: str, **files: str | bytes) -> None:
        more: dict[str, str | bytes] = {f"{name}.pem": pem(LEAF) for name in pins}
        self.settings = compiled(path, {**more, **files})
        self.names, self.policies = Names(), Policies()
        self.names.mail = {"a.example": [(10, "mx.a.example")], "mx.a.example": [], "b.example": [(10, "mx.else.test")]}
        self.names.hosts = {"mx.a.example": "192.0.2.1"}

    def tlsa(self, *records: Tlsa) -> None:
        self.names.tlsa["_25._tcp.mx.a.example"] = records
        self.names.secure |= {"mx.a.example", "_25._tcp.mx.a.example"}

    def found(self) -> list[str]:
        result: list[Any] = []
        resolver: Any = self.names
        Deferred.fromCoroutine(cross_check(self.settings, resolver, self.policies)).addBoth(result.append)
        assert isinstance(result[0], list), result
        assert all(isinstance(finding, Finding) for finding in result[0])
        return [str(finding) for finding in result[0]]


@pytest.mark.parametrize("name", ["a.example", "mx.a.example"])
def test_a_pin_that_is_used(tmp_path: Path, name: str) -> None:
    case = Case(tmp_path, name)
    assert case.found() == []
    case.tlsa(Tlsa(3, 1, 1, key_digest(LEAF)), OTHER)
    assert case.found() == []


def test_a_host_that_no_record_names_any_more(tmp_path: Path) -> None:
    case = Case(tmp_path, "mx.a.example")
    case.names.mail["a.example"] = [(10, "new.a.example")]
    (text,) = case.found()
    assert text.startswith("warning: control/mx.a.example.pem: no MX record of a.example names mx.a.example")
    case.names.hosts.clear()
    assert "has neither MX records nor an address" in case.found()[0]
    del case.names.mail["mx.a.example"]
    assert "does not exist" in case.found()[0]


def test_a_host_of_a_domain_in_tlspolicy_or_of_a_route_is_named(tmp_path: Path) -> None:
    case = Case(tmp_path / "a", "mx.else.test", tlspolicy="b.example encrypt\n")
    case.names.mail |= {"mx.else.test": []}
    assert case.found() == []
    case = Case(tmp_path / "b", "relay.test", smtproutes=":relay.test\n")
    case.names.mail |= {"relay.test": []}
    assert case.found() == []


@pytest.mark.parametrize("name", ["a.example", "mx.a.example"])
def test_records_that_contradict_the_pin(tmp_path: Path, name: str) -> None:
    case = Case(tmp_path, name)
    case.tlsa(OTHER)
    (text,) = case.found()
    assert "pins none of the keys in the TLSA records at _25._tcp.mx.a.example" in text
    for record in (Tlsa(2, 1, 1, bytes(32)), Tlsa(3, 0, 1, certificate_digest(LEAF))):
        case.tlsa(OTHER, record)
        assert case.found() == [], "nobody can tell"


def test_a_policy_that_does_not_name_the_host(tmp_path: Path) -> None:
    case = Case(tmp_path, "a.example")
    case.policies.known["a.example"] = StsPolicy(StsMode.ENFORCE, 86400, ("mx.new.test",))
    assert "MTA-STS policy does not name its MX host mx.a.example" in case.found()[0]


def test_what_cannot_be_looked_up_is_a_note_and_stops_nothing(tmp_path: Path) -> None:
    case = Case(tmp_path, "a.example", "mx.a.example")
    case.names.mail["a.example"] = DnsTrouble("no answer")
    notes = case.found()
    assert notes[0] == "note: control/a.example.pem: cannot be compared with DNS now: no answer"
    assert len(notes) == 2


def test_pins_that_cannot_be_used_and_addresses_are_left_alone(tmp_path: Path) -> None:
    assert Case(tmp_path, "192.0.2.1", **{"c.example.pem": "garbage"}).found() == []
