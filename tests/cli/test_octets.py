"""What rules messages out by their octets never rules out one that the filter itself would take."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmtls.cli.bins import Entry
from qmtls.cli.parser import Parser
from qmtls.cli.queuefilter import add_filters, wanted
from qmtls.delivery.holds import Hold
from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Arrival, Envelope, Recipient
from qmtls.spool.api import BOUNCE, HOLD, Attempt, Waiting, pending
from qmtls.spool.history import encode_attempt
from qmtls.spool.maildir import MaildirSpool
from qmtls.spool.record import encode_envelope
from qmtls.tls.policy import Origin

NOW = 1_795_000_000.0

# Characters that lower() makes plain ones of, that JSON escapes, and that look like our own text.
letters = st.sampled_from(
    ["a", "K", "\u212a", "\u0130", '"', "\\", ";", " ", "@", ".", "-", "\u00e9", "}", "/", "null"]
)
words = st.lists(letters, min_size=1, max_size=4).map("".join)
hosts = st.sampled_from(
    ["a.example", "A.Example", "b.a.example", "m\u00fcnchen.example", "k.example", "\u212a.example"]
)
local_parts = words.filter(lambda text: text[0] not in "@.")  # with those an option begins a domain
addresses = st.builds(Address, local_parts, hosts)
arrivals = st.builds(
    Arrival,
    st.sampled_from([NOW - 100, NOW - 3600.5, NOW]),
    st.sampled_from(["", "192.0.2.1", "2001:db8::1", "192.0.2.10", "::ffff:192.0.2.1", "::ffff:c000:201"]),
    words,
    st.just("ESMTP"),
    st.just(""),
    words,
)
envelopes = st.builds(
    Envelope,
    st.none() | addresses,
    st.lists(st.builds(Recipient, addresses), min_size=1, max_size=3).map(tuple),
    arrivals,
)
sentences = st.lists(words, min_size=1, max_size=3).map(" ".join)


@st.composite
def histories(draw: st.DrawFn) -> tuple[Attempt, ...]:
    events = draw(st.lists(st.sampled_from(["attempt", HOLD, BOUNCE]), max_size=4))
    return tuple(Attempt(NOW, reasons=((0, draw(sentences)),), event=event) for event in events)


def written(text: str) -> st.SearchStrategy[str]:
    """As an operator may write it."""
    return st.sampled_from([text, text.lower(), text.upper(), text.swapcase()])


@st.composite
def filters(draw: st.DrawFn, entry: Entry) -> dict[str, str]:
    """Such as this message may pass."""
    arrival = entry.envelope.arrival
    found = {
        "--from": entry.sender or "<>",
        "--to": draw(st.sampled_from(entry.addresses)),
        "--domain": draw(st.sampled_from(entry.recipients)).host,
        "--client": draw(st.sampled_from([arrival.client, "192.0.2.0/24", arrival.helo, arrival.identity])),
        "--reason": entry.reason[draw(st.integers(0, 3)) :],
    }
    given = {name: draw(written(value)) for name, value in found.items() if value.strip() and draw(st.booleans())}
    more = {
        "--older": ["100s", "1h"],
        "--younger": ["100s", "1h", "1d"],
        "--larger": ["0", "9", "10"],
        "--state": ["new", "waiting", "held", "returning"],
    }
    given |= {name: draw(st.sampled_from(values)) for name, values in more.items() if draw(st.integers(0, 3)) == 0}
    return given


waitings = st.sampled_from(
    [Waiting("id", 0.0), Waiting("id", NOW), Waiting("id", 0.0, True), Waiting("id", 0.0, False, True)]
)


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> MaildirSpool:
    path: Path = tmp_path_factory.mktemp("queue")
    return MaildirSpool(path / "1")


def read(given: dict[str, str]) -> argparse.Namespace:
    parser = Parser()
    add_filters(parser)
    return parser.parse_args([f"{name}={value}" for name, value in given.items()])


@settings(max_examples=500, deadline=None)
@given(envelopes, histories(), waitings, st.booleans(), st.data())
def test_nothing_that_is_meant_is_ruled_out(
    spool: MaildirSpool,
    envelope: Envelope,
    history: tuple[Attempt, ...],
    waiting: Waiting,
    ruled: bool,
    data: st.DataObject,
) -> None:
    to = pending(len(envelope.recipients), history)
    rule = Hold(Origin("control/holds", 1), "domain=a.example", reason="a K")
    log = b"".join(map(encode_attempt, history))
    entry = Entry(spool, waiting, envelope, 10, log, to, dict.fromkeys(to, rule) if ruled else {})
    meant = wanted(read(data.draw(filters(entry))), NOW, ruled)
    if meant.entry(entry):
        start = encode_envelope(envelope, 10) + b"0123456789"
        assert meant.name(waiting)
        assert meant.octets.start(start, len(start))
        assert meant.octets.log(log)


@pytest.mark.parametrize(
    ("option", "value", "out"),
    [
        ("--from", "joe@b.example", True),
        ("--from", "ANN@A.Example", False),
        ("--from", "<>", True),
        ("--to", "@b.example", False),
        ("--domain", ".example", False),
        ("--domain", "example.org", True),
        ("--client", "192.0.2.1", False),
        ("--client", "192.0.2.7", True),
        ("--older", "1h", True),
        ("--younger", "10s", True),
        ("--younger", "1h", False),
        ("--larger", "10", True),
        ("--larger", "9", False),
    ],
)
def test_most_is_ruled_out(option: str, value: str, out: bool) -> None:
    arrival = Arrival(NOW - 60, "192.0.2.1", "client.example", "ESMTP", "", "")
    envelope = Envelope(Address("ann", "a.example"), (Recipient(Address("bob", "b.example")),), arrival)
    start = encode_envelope(envelope, 10) + b"0123456789"
    assert wanted(read({option: value}), NOW, False).octets.start(start, len(start)) is not out


def test_a_reason_is_sought_in_the_log() -> None:
    log = encode_attempt(Attempt(NOW, deferred=(0,), reasons=((0, "mx.b.example said 451"),)))
    assert wanted(read({"--reason": "SAID 451"}), NOW, False).octets.log(log)
    assert not wanted(read({"--reason": "said 452"}), NOW, False).octets.log(log)
    assert wanted(read({"--reason": "said 452"}), NOW, True).octets.log(log), "a rule may say it"


def test_a_reason_of_two_sentences_is_found_across_them() -> None:
    assert wanted(read({"--reason": "held by ann; mx said 451"}), NOW, False).octets.log(b"{}")
