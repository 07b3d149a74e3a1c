"""Who may come in, and how much who is in may do."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from qmtls.limits import LimitRules, Limits
from qmtls.net.buckets import Buckets
from qmtls.net.doorkeeper import MOST_TOLD, Doorkeeper, Visit, identity_key
from qmtls.smtp.reply import Reply
from qmtls.tls.clients import ClientRule
from qmtls.tls.policy import Origin
from qmtls.tls.scope import Patterns, Rate, Scope

LINE = Origin("control/limits", 7)
TWO = Rate(2, 60.0, "2/m")
CLIENT = "192.0.2.1"


class Door:
    """A door on a clock of ours."""

    def __init__(self, state: Path) -> None:
        self.time = 1000.0
        self.said: list[str] = []
        self.buckets = Buckets(state, self.said.append, lambda: self.time)
        self.keeper = Doorkeeper(self.buckets, self.said.append)

    def enter(self, limits: Limits, address: str = CLIENT) -> Visit | Reply:
        return self.keeper.enter(LimitRules(limits), address)

    def come(self, limits: Limits, address: str = CLIENT) -> Visit:
        visit = self.enter(limits, address)
        assert isinstance(visit, Visit)
        return visit


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    made = Door(tmp_path)
    yield made
    made.buckets.close()


def test_so_many_connections_at_a_time(door: Door) -> None:
    limits = Limits(connections=2, origin=LINE)
    first = door.come(limits)
    door.come(limits)
    assert str(door.enter(limits)) == "421 4.7.0 too many connections from your address, 2 at a time; try later"
    assert isinstance(door.enter(limits, "192.0.2.2"), Visit)
    first.leave()
    first.leave()  # only once counts
    door.come(limits)
    assert isinstance(door.enter(limits), Reply)


def test_addresses_of_one_ipv6_customer_share(door: Door) -> None:
    limits = Limits(connections=1)
    door.come(limits, "2001:db8::1")
    assert isinstance(door.enter(limits, "2001:db8::ffff:2"), Reply)
    door.come(limits, "2001:db8:0:1::1")


def test_so_many_new_connections(door: Door) -> None:
    limits = Limits(rate=TWO)
    door.come(limits).leave()
    door.come(limits).leave()
    assert str(door.enter(limits)) == (
        "421 4.7.0 too many connections from your address, 2/m at most; try again in 30 seconds"
    )
    door.time += 30.0
    door.come(limits)


def test_so_many_messages_commands_and_failed_logins(door: Door) -> None:
    limits = Limits(messages=TWO, commands=Rate(10, 60.0, "10/m"), logins=TWO)
    visit = door.come(limits)
    assert [visit.message(), visit.message()] == [None, None]
    assert str(visit.message()) == "450 4.7.1 too many messages from your address, 2/m at most; try again in 30 seconds"
    assert visit.commands(10) is None
    refusal = visit.commands(1)
    assert refusal is not None and refusal.code == 421
    for _ in range(9):
        assert visit.login() is None
        visit.logged_in()
    assert [visit.login(), visit.login()] == [None, None]
    assert str(visit.login()) == (
        "454 4.7.0 too many failed logins from your address, 2/m at most; try again in 30 seconds"
    )
    other = door.come(limits, "192.0.2.2")
    assert [other.message(), other.commands(1), other.login()] == [None] * 3


def test_where_nothing_is_limited_nothing_is_counted(door: Door) -> None:
    rules = LimitRules(free=(ip_network("192.0.2.0/24"),))
    for address in ("127.0.0.1", "::1", "", CLIENT):
        visit = door.keeper.enter(rules, address)
        assert isinstance(visit, Visit)
        assert [visit.message(), visit.commands(99), visit.login()] == [None] * 3
        visit.logged_in()
        visit.leave()
    assert list(Path(door.buckets._path).parent.iterdir()) == []  # not even a file was made


def test_a_limit_that_comes_with_a_reload_is_not_taken_from_who_came_before(door: Door) -> None:
    before = door.come(Limits())
    limits = Limits(connections=1)
    door.come(limits)
    before.leave()
    assert isinstance(door.enter(limits), Reply)


def test_the_log_has_one_line_a_minute_for_each_address(door: Door) -> None:
    limits = Limits(connections=1, origin=LINE)
    for address in (CLIENT, "192.0.2.2"):
        door.come(limits, address)
        for _ in range(5):
            door.enter(limits, address)
    reply = "421 4.7.0 too many connections from your address, 1 at a time; try later"
    assert door.said == [
        f"refused client={address} limit=control/limits:7 reply={reply}" for address in (CLIENT, "192.0.2.2")
    ]
    door.said.clear()
    door.time += 60.0
    door.enter(limits)
    assert door.said == [f"refused client={CLIENT} limit=control/limits:7 unlogged=4 reply={reply}"]


def test_what_is_remembered_for_the_log_has_an_end(door: Door) -> None:
    limits = Limits(messages=Rate(1, 86400.0, "1/d"))
    for number in range(MOST_TOLD + 10):
        visit = door.come(limits, f"10.0.{number >> 8}.{number & 255}")
        visit.message()
        assert visit.message() is not None
    assert len(door.said) == MOST_TOLD
    door.time += 60.0
    assert door.come(limits, CLIENT).message() is None
    assert door.come(limits, CLIENT).message() is not None
    assert len(door.said) == MOST_TOLD + 1
    assert len(door.keeper._told) == 1


def rule(text: str, scope: Scope, line: int = 1) -> ClientRule:
    return ClientRule("email", text, Origin("control/tlsclients", line), text, scope)


def test_the_rate_of_an_identity(door: Door) -> None:
    alice, bob = (rule(name, Scope(rate=TWO)) for name in ("alice@a.example", "bob@a.example"))
    assert [door.keeper.wait(alice) for _ in range(4)] == [0.0, 0.0, 30.0, 30.0]
    assert door.keeper.wait(bob) == 0.0
    assert [door.keeper.wait(rule("carol@a.example", Scope())) for _ in range(9)] == [0.0] * 9


def test_the_bucket_of_a_line_is_the_same_wherever_it_stands() -> None:
    scope = Scope(rate=TWO)
    assert identity_key(rule("a@b", scope, line=1)) == identity_key(rule("a@b", scope, line=2))
    others = [
        scope,
        Scope(rate=Rate(3, 60.0, "3/m")),
        Scope(rate=TWO, senders=Patterns(frozenset({"@c"}), "@c")),
        Scope(rate=TWO, recipients=Patterns(frozenset({"@c"}), "@c")),
    ]
    assert len({identity_key(rule("a@b", other)) for other in others}) == len(others)
