"""The envelope's text: whatever goes in comes back, and nothing else is believed."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Arrival, Envelope, Recipient
from qmtls.spool.api import Malformed
from qmtls.spool.record import (
    FIELD,
    HEAD_LIMIT,
    SIZE_OFFSET,
    SIZE_WIDTH,
    UNFINISHED,
    decode_envelope,
    decode_head,
    encode_envelope,
    encode_size,
    is_id,
)
from tests.spool.mail import ENVELOPE

text = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=20)
addresses = st.builds(Address, text, text)
parameters = st.lists(st.tuples(text, text), max_size=3).map(tuple)
arrivals = st.builds(Arrival, st.floats(allow_nan=False, allow_infinity=False), text, text, text, text, text)
envelopes = st.builds(
    Envelope,
    st.none() | addresses,
    st.lists(st.builds(Recipient, addresses, parameters), max_size=4).map(tuple),
    arrivals,
    text,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    parameters,
)


@given(envelopes, st.integers(0, 10**SIZE_WIDTH - 1), st.binary(max_size=20))
@example(ENVELOPE, 0, b" \r\n")
@example(ENVELOPE, 1, b"}\r\n")
def test_everything_comes_back(envelope: Envelope, size: int, behind: bytes) -> None:
    head = encode_envelope(envelope, size)
    found = decode_head(head + behind)
    assert found.envelope == envelope
    assert (found.size, found.length) == (size, len(head))
    assert decode_envelope(head) == envelope


@given(envelopes)
def test_it_is_one_folded_ascii_header_field(envelope: Envelope) -> None:
    head = encode_envelope(envelope, 5)
    assert head.isascii()
    first, *rest, last = head.split(b"\r\n")
    assert first.startswith(FIELD)
    assert all(line.startswith(b" ") for line in rest)
    assert last == b""
    assert json.loads(head[len(FIELD) :])["version"] == 1


def test_the_size_can_be_put_in_later() -> None:
    head = bytearray(encode_envelope(ENVELOPE, UNFINISHED))
    with pytest.raises(Malformed, match="never finished"):
        decode_head(bytes(head))
    head[SIZE_OFFSET : SIZE_OFFSET + SIZE_WIDTH] = encode_size(4096)
    assert bytes(head) == encode_envelope(ENVELOPE, 4096)


@pytest.mark.parametrize("bad", ["\r", "\n", "\0", "a\r\nMAIL FROM:<>"])
def test_line_ends_and_nul_are_refused_on_the_way_in_and_out(bad: str) -> None:
    envelope = dataclasses.replace(ENVELOPE, recipients=(Recipient(Address(bad, "b.example")),))
    with pytest.raises(Malformed, match="CR, LF or NUL"):
        encode_envelope(envelope)
    head = encode_envelope(dataclasses.replace(ENVELOPE, body="@@")).replace(b"@@", json.dumps(bad)[1:-1].encode())
    with pytest.raises(Malformed, match="CR, LF or NUL"):
        decode_envelope(head)


def test_a_backslash_before_a_letter_is_no_line_end() -> None:
    envelope = dataclasses.replace(ENVELOPE, reverse_path=Address("a\\n\\r\\u0000", "b.example"))
    assert decode_envelope(encode_envelope(envelope)) == envelope
    encode_envelope(envelope, UNFINISHED)


def changed(**parts: object) -> bytes:
    known = json.loads(encode_envelope(ENVELOPE)[len(FIELD) :])
    known.update(parts)
    return FIELD + json.dumps({k: v for k, v in known.items() if v != "absent"}).encode() + b"\r\n"


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (b"", "does not start"),
        (b"Received: x\r\n", "does not start"),
        (FIELD, "no end"),
        (encode_envelope(ENVELOPE)[:-1], "no end"),
        (FIELD + b"[}\r\n", "not JSON"),
        (FIELD + b"\xff}\r\n", "not JSON"),
        (FIELD + b"[" * 100_000 + b"}\r\n", "not JSON"),
        (FIELD + b'{"version":' + b"9" * 5000 + b"}\r\n", "not JSON"),
        (FIELD + b'{"version":NaN}\r\n', "NaN"),
        (FIELD + b'{"a":1} {"b":2}\r\n', "not JSON"),
        (FIELD + b'{"version":1}\r\n', "keys missing"),
        (FIELD + b" " * HEAD_LIMIT + b"}\r\n", "no end"),
        (changed(version=2), "version is not 1"),
        (changed(version=True), "version is not 1"),
        (changed(version="1"), "version is not 1"),
        (changed(version=1.0), "version is not 1"),
        (changed(version="absent"), "version is not 1"),
        (changed(requiretls="absent"), "missing or unknown: requiretls"),
        (changed(mustdo=True), "missing or unknown: mustdo"),
        (changed(size=-2), "size"),
        (changed(size=1.5), "size"),
        (changed(size=True), "size"),
        (changed(size=10**16), "size"),
        (changed(**{"from": ["a"]}), "from"),
        (changed(**{"from": "a@b"}), "from"),
        (changed(**{"from": [1, "b"]}), "local part: not text"),
        (changed(body=None), "body"),
        (changed(smtputf8=1), "smtputf8"),
        (changed(requiretls="true"), "requiretls"),
        (changed(tlsoptional=1), "tlsoptional"),
        (changed(parameters={}), "parameters"),
        (changed(parameters=[["A", 1]]), "parameter: not text"),
        (changed(to={}), "to: not a list"),
        (changed(to=[["a", "b"]]), "to: not a list of 3"),
        (changed(to=[["a", "b", [["X"]]]]), "parameters: not a list of 2"),
        (changed(arrival=[]), "arrival"),
        (changed(arrival={"time": 1}), "arrival"),
    ],
)
def test_hostile_heads(head: bytes, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        decode_head(head)


@pytest.mark.parametrize("time", [True, "1", None, float("inf")])
def test_the_time_is_a_number(time: object) -> None:
    arrival = {"time": time, "client": "", "helo": "", "protocol": "", "tls": "", "identity": ""}
    head = changed(arrival=arrival).replace(b"Infinity", b"1e999")
    with pytest.raises(Malformed, match="time"):
        decode_head(head)


@given(st.binary(max_size=200), st.data())
def test_no_octets_do_more_than_malformed(noise: bytes, data: st.DataObject) -> None:
    head = bytearray(encode_envelope(ENVELOPE, 7))
    at = data.draw(st.integers(0, len(head)))
    head[at : at + data.draw(st.integers(0, 20))] = noise
    try:
        decode_head(bytes(head))
    except Malformed:
        pass


def test_an_envelope_beyond_the_limit_is_refused() -> None:
    long = Recipient(Address("x" * 1000, "b.example"))
    with pytest.raises(Malformed, match="limit"):
        encode_envelope(dataclasses.replace(ENVELOPE, recipients=(long,) * 9000))


def test_ids() -> None:
    assert is_id("00065f1c2d3e4a0b1c2d3")
    assert not any(map(is_id, ("", "A", "a.b", "a/b", "a:2,S", "a" * 65, "٣", "a\n")))
