from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import LogEvent

from qmtls.net.dnscheck import DnssecState
from qmtls.net.resolver import Answer, DnsTrouble
from qmtls.service.upkeep import Upkeep
from tests.control.directory import compiled

CHECK: dict[str, str | bytes] = {"dnscheck": "good.example bad.example\n"}


class Names:
    """A resolver of two names."""

    def __init__(self) -> None:
        self.untrusted: tuple[str, ...] = ()
        self.good: Any = Answer(True, "good.example", ("192.0.2.1",), secure=True)
        self.bad: Any = DnsTrouble("SERVFAIL", servfail=True)

    async def ask(self, name: str, kind: str) -> Answer:
        found = self.good if name == "good.example" else self.bad
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, Answer)
        return found


class Policies:
    def __init__(self) -> None:
        self.refreshed = 0
        self.broken = False

    async def refresh(self) -> int:
        self.refreshed += 1
        if self.broken:
            raise RuntimeError
        return 0


class Case:
    def __init__(self, path: Path, files: dict[str, str | bytes]) -> None:
        self.names, self.policies, self.said = Names(), Policies(), list[str]()
        self.settings = compiled(path, files)
        resolver: Any = self.names
        self.upkeep = Upkeep(resolver, self.policies, lambda: self.settings, self.said.append)


def test_a_resolver_that_works_is_told_once(tmp_path: Path) -> None:
    case = Case(tmp_path, CHECK)
    case.upkeep.look()
    case.upkeep.hourly()
    assert case.upkeep.state is DnssecState.WORKS and len(case.said) == 1
    assert not case.said[0].startswith("warning") and case.policies.refreshed == 1


@pytest.mark.parametrize("fault", ["insecure", "takes bad signatures", "untrusted", "silent"])
def test_one_that_does_not_is_told_each_time(tmp_path: Path, fault: str) -> None:
    case = Case(tmp_path, CHECK)
    match fault:
        case "insecure":
            case.names.good = replace(case.names.good, secure=False)
        case "takes bad signatures":
            case.names.bad = case.names.good
        case "untrusted":
            case.names.untrusted = ("192.0.2.53",)
        case _:
            case.names.good = DnsTrouble("no answer")
    case.upkeep.look()
    case.upkeep.hourly()
    assert len(case.said) == 2 and all(line.startswith("warning: ") for line in case.said)
    assert case.upkeep.state is (DnssecState.UNKNOWN if fault == "silent" else DnssecState.OFF)


def test_without_names_only_trust_is_looked_at(tmp_path: Path) -> None:
    case = Case(tmp_path, {})
    case.upkeep.look()
    assert not case.said and case.upkeep.state is None
    case.names.untrusted = ("192.0.2.53",)
    case.upkeep.look()
    case.upkeep.look()
    (line,) = case.said
    assert line.startswith("warning: DANE is off: the resolver 192.0.2.53 is neither") and "control/dnsserver" in line


def test_where_no_rule_asks_for_dane_nobody_misses_it(tmp_path: Path) -> None:
    case = Case(tmp_path, {"tlsdefault": "dane-only\n"})
    case.names.untrusted = ("192.0.2.53",)
    case.upkeep.look()
    assert len(case.said) == 1
    case = Case(tmp_path, {"tlsdefault": "sts\n", "tlspolicy": "a.example encrypt\n"})
    case.names.untrusted = ("192.0.2.53",)
    case.upkeep.look()
    assert not case.said


def test_a_fault_is_logged_and_nothing_else(tmp_path: Path, failures: list[LogEvent]) -> None:
    case = Case(tmp_path, CHECK)
    case.policies.broken = True
    case.upkeep.hourly()
    assert len(failures) == 1 and case.upkeep.state is DnssecState.WORKS
    failures.clear()
