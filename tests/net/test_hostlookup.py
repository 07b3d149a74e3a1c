"""Several hosts' addresses at once: in order, bounded, and with patience for those that hang."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from qmtls.net.hostlookup import AT_ONCE, PATIENCE, Answers, Lookup
from qmtls.net.resolver import DnsTrouble, HostAddresses

TROUBLE = DnsTrouble("DNS: it is sick")


class Hanging:
    """Names that answer when the test says so."""

    def __init__(self) -> None:
        self.waiting: dict[str, Deferred[HostAddresses]] = {}
        self.asked: list[str] = []

    async def host(self, host: str) -> HostAddresses:
        self.asked.append(host)
        waiting = self.waiting[host] = Deferred()
        return await waiting

    def answer(self, name: str, *addresses: str) -> None:
        self.waiting.pop(name).callback(HostAddresses(name, addresses, False, name))

    def fail(self, name: str, problem: Exception = TROUBLE) -> None:
        self.waiting.pop(name).errback(problem)


def is_enough(answers: Answers) -> bool:
    """192.0.2.1 takes mail, unless 192.0.2.66 turns up."""
    known = {address for one in answers.values() if isinstance(one, HostAddresses) for address in one.addresses}
    return "192.0.2.1" in known and "192.0.2.66" not in known


class Case:
    def __init__(self, names: Sequence[str], needed: str = "", width: int = AT_ONCE) -> None:
        self.hosts, self.clock = Hanging(), Clock()
        lookup = Lookup(self.hosts, self.clock, is_enough, needed, width)
        self.found: list[Any] = []
        running: Deferred[Answers] = Deferred.fromCoroutine(lookup.run(names))
        running.addCallbacks(self.found.append, lambda failure: self.found.append(failure.value))

    @property
    def answers(self) -> dict[str, object]:
        """Addresses by name, or the sentence of the trouble."""
        (found,) = self.found
        return {name: one.addresses if isinstance(one, HostAddresses) else str(one) for name, one in found.items()}


def test_all_are_asked_at_once_and_come_back_in_order() -> None:
    case = Case(["a", "b", "c"])
    assert case.hosts.asked == ["a", "b", "c"]
    case.hosts.answer("c", "192.0.2.3")
    case.hosts.fail("a")
    case.hosts.answer("b", "192.0.2.1")
    assert case.answers == {"a": str(TROUBLE), "b": ("192.0.2.1",), "c": ("192.0.2.3",)}
    assert list(case.answers) == ["a", "b", "c"]
    assert not case.clock.getDelayedCalls()


def test_a_name_that_hangs_is_waited_for_a_moment_once_there_is_a_host() -> None:
    case = Case(["hangs", "b"])
    case.hosts.answer("b", "192.0.2.1")
    case.clock.advance(PATIENCE - 0.01)
    assert not case.found
    case.clock.advance(0.02)
    assert case.answers == {"hangs": "DNS: the addresses of hangs did not come in time", "b": ("192.0.2.1",)}
    case.hosts.answer("hangs", "192.0.2.9")  # nobody waits any more, and nothing breaks
    assert case.answers["hangs"] == "DNS: the addresses of hangs did not come in time"


def test_as_long_as_no_host_can_be_used_all_are_waited_for() -> None:
    case = Case(["hangs", "b"])
    case.hosts.answer("b")
    case.clock.advance(60 * PATIENCE)
    assert not case.found
    case.hosts.fail("hangs")
    assert case.answers == {"hangs": str(TROUBLE), "b": ()}


def test_a_name_that_is_needed_is_asked_for_first_and_waited_for_in_any_case() -> None:
    case = Case(["a", "me"], needed="me")
    assert case.hosts.asked == ["me", "a"]
    case.hosts.answer("a", "192.0.2.1")
    case.clock.advance(60 * PATIENCE)
    assert not case.found
    case.hosts.answer("me", "192.0.2.2")
    assert list(case.answers) == ["a", "me"]


def test_what_comes_in_time_may_mean_that_it_is_not_enough() -> None:
    case = Case(["hangs", "b", "c"])
    case.hosts.answer("b", "192.0.2.1")
    case.hosts.answer("c", "192.0.2.66")
    case.clock.advance(60 * PATIENCE)
    assert not case.found
    case.hosts.answer("hangs", "192.0.2.9")
    assert case.answers["hangs"] == ("192.0.2.9",)


def test_never_more_at_a_time_than_there_is_room_for() -> None:
    names = [f"host-{n}" for n in range(AT_ONCE + 3)]
    case = Case(names)
    assert case.hosts.asked == names[:AT_ONCE]
    case.hosts.answer("host-4")
    assert case.hosts.asked == names[: AT_ONCE + 1]
    case.hosts.answer("host-5", "192.0.2.1")
    case.clock.advance(PATIENCE)
    assert len(case.hosts.asked) == AT_ONCE + 2
    assert list(case.answers) == names
    case.hosts.answer("host-6")
    assert len(case.hosts.asked) == AT_ONCE + 2, "asked for although it is over"


def test_one_after_the_other_where_many_questions_are_under_way() -> None:
    case = Case(["a", "b"], width=1)
    assert case.hosts.asked == ["a"]
    case.hosts.answer("a", "192.0.2.1")
    assert case.hosts.asked == ["a", "b"]
    case.clock.advance(PATIENCE)
    assert case.answers["a"] == ("192.0.2.1",)


def test_a_fault_of_the_program_is_not_taken_for_trouble() -> None:
    case = Case(["a", "b"])
    case.hosts.fail("a", ZeroDivisionError("ours"))
    assert isinstance(case.found[0], ZeroDivisionError)
    case.hosts.waiting["b"].errback(Failure(TROUBLE))


def test_no_names() -> None:
    assert Case([]).answers == {}
