from __future__ import annotations

from dataclasses import dataclass
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmtls.tls.scope import UNBOUNDED, Patterns, Scope
from qmtls.tls.scopeindex import ScopeIndex


@dataclass(frozen=True)
class Box:
    """An address as patterns see it."""

    local_part: str
    host: str


def box(text: str) -> Box | None:
    local_part, at, host = text.rpartition("@")
    return Box(local_part, host) if at else None


def patterns(text: str) -> Patterns:
    return Patterns(frozenset(text.split(",")), text)


@pytest.mark.parametrize(
    ("text", "address", "fits"),
    [
        ("@a.example", "x@a.example", True),
        ("@a.example", "x@b.a.example", False),
        ("@a.example", "x@ba.example", False),
        (".a.example", "x@b.a.example", True),
        (".a.example", "x@c.b.a.example", True),
        (".a.example", "x@a.example", False),
        (".a.example", "x@ba.example", False),
        ("c@a.example", "c@a.example", True),
        ("c@a.example", "C@a.example", True),
        ("c@a.example", "cc@a.example", False),
        ("kim@a.example", "\u212aim@a.example", False),  # the Kelvin sign, which lower() makes a k
        ("\u00fcx@a.example", "\u00fcX@a.example", True),
        ("c@a.example", "c@b.a.example", False),
        ("<>", "", True),
        ("<>", "x@a.example", False),
        ("@a.example", "", False),
        ("@a.example,.b.example,<>", "x@c.b.example", True),
        # A local part that looks like a pattern is none.
        (".a.example", "x.a.example@evil.example", False),
        ("@a.example", '"x@a.example"@evil.example', False),
        ("@a.example", "<>@b.example", False),
        (".example", "x@", False),
    ],
)
def test_patterns(text: str, address: str, fits: bool) -> None:
    assert patterns(text).admit(box(address)) is fits


ALICE, BOB = Box("alice", "a.example"), Box("bob", "b.example")


@pytest.mark.parametrize(
    ("scope", "objection"),
    [
        (UNBOUNDED, ""),
        (Scope(senders=patterns("@a.example")), ""),
        (Scope(senders=patterns("@b.example")), "from=@b.example"),
        (Scope(recipients=patterns("@b.example")), ""),
        (Scope(recipients=patterns("@a.example")), "to=@a.example"),
        (Scope(senders=patterns("<>"), recipients=patterns("@a.example")), "from=<>"),
        (Scope(until=100.5), ""),
        (Scope(until=100.0), "until=1970-01-01 has passed"),
        (Scope(until=86400.0, size=1, label="x"), ""),
    ],
)
def test_a_scope_permits_or_says_why_not(scope: Scope, objection: str) -> None:
    assert scope.objection(ALICE, BOB, 100.0) == objection
    assert scope.permits(ALICE, BOB, 100.0) is (objection == "")


def test_the_day_that_until_names_is_the_last_one() -> None:
    scope = Scope(until=2 * 86400.0)
    assert scope.permits(None, BOB, 2 * 86400 - 0.1)
    assert scope.objection(None, BOB, 2 * 86400) == "until=1970-01-02 has passed"


HOSTS = st.sampled_from(["a.example", "b.example", "c.b.example", "example", ""])
BOXES = st.builds(Box, st.sampled_from(["x", "Y"]), HOSTS)
WORDS = st.sampled_from(["@a.example", "@c.b.example", ".b.example", ".example", "x@a.example", "y@b.example", "<>"])
LISTS = st.none() | st.frozensets(WORDS, max_size=3).map(lambda words: Patterns(words, ""))
SCOPES = st.builds(Scope, senders=LISTS, recipients=LISTS, until=st.sampled_from([0.0, inf]))


@given(st.lists(SCOPES, max_size=12), BOXES | st.none(), BOXES)
def test_the_index_finds_every_scope_that_permits_in_order(scopes: list[Scope], sender: Box | None, to: Box) -> None:
    index = ScopeIndex(scopes)
    candidates = list(index.candidates(sender, to))
    permitting = [place for place, scope in enumerate(scopes) if scope.permits(sender, to, 0.0)]
    assert [place for place in candidates if scopes[place].permits(sender, to, 0.0)] == permitting
    assert candidates == sorted(set(candidates))
    assert bool(index.for_sender(sender)) is any(scope.permits_sender(sender) for scope in scopes)
