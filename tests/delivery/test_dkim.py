"""Our DKIM signatures, verified by dkimpy: another implementation decides whether they are right."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import dkim  # type: ignore[import-untyped]
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from hypothesis import given, settings
from hypothesis import strategies as st

from qmtls.delivery.dkim import MAX_HEADER, DkimKey, Unsignable, author_domain, is_ours, signatures
from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Arrival, Envelope, Recipient
from qmtls.tls.policy import Origin

NOW = 1_700_000_000
RSA = DkimKey("here.example", "r1", generate_private_key(65537, 2048), Origin("control/dkim/here.example.r1.key"))
ED = DkimKey("here.example", "e1", Ed25519PrivateKey.generate(), Origin("control/dkim/here.example.e1.key"))
OTHER = DkimKey("other.example", "o1", Ed25519PrivateKey.generate(), Origin("control/dkim/other.example.o1.key"))
KEYS = {"here.example": (RSA, ED), "other.example": (OTHER,)}
RECORDS = {f"{name}.".encode(): text.encode() for name, text in (key.record for key in (RSA, ED, OTHER))}

SIMPLE = b"From: Joe <joe@here.example>\r\nTo: ann@there.example\r\nSubject: hi\r\nDate: x\r\n\r\nhello\r\n"
MESSAGES = {
    "simple": SIMPLE,
    "folded": b"Received: by x\r\n\t;  y\r\nFROM: Joe\r\n\t<joe@here.example>\r\nSubject:  a \t b\r\n  c \r\n\r\nx\r\n",
    "utf-8": "From: Jörg <jörg@here.example>\r\nSubject: grüße\r\n\r\nschöne\tgrüße\r\n".encode(),
    "empty body": SIMPLE.partition(b"hello")[0],
    "no body": SIMPLE.partition(b"\r\nhello")[0],
    "trailing blank lines": SIMPLE + b"\r\n \t\r\n\r\n  \r\n",
    "blank lines only": SIMPLE.partition(b"hello")[0] + b"\r\n \r\n\r\n",
    "blanks": SIMPLE + b"  two  \t blanks \t \r\n\r\n\r\n \t indented\r\n",
    "no end of line": SIMPLE + b"last",
    "several": SIMPLE.replace(b"To:", b"Resent-To: one@x\r\nResent-To: two@x\r\nTo:"),
    "dots": SIMPLE + b".\r\n..\r\n.x\r\n",
}


def envelope(path: str | None = "joe@here.example", protocol: str = "local", identity: str = "") -> Envelope:
    reverse = Address(*path.rsplit("@", 1)) if path else None
    arrival = Arrival(float(NOW), protocol=protocol, identity=identity)
    return Envelope(reverse, (Recipient(Address("ann", "there.example")),), arrival)


def signed(message: bytes, of: Envelope | None = None) -> bytes:
    return signatures(of or envelope(), [message], KEYS, NOW) + message


def verdicts(message: bytes) -> list[bool]:
    """Of each signature."""
    count = message.lower().count(b"dkim-signature:")
    return [_verdict(dkim.DKIM(message), n) for n in range(count)]


def _verdict(verifier: Any, number: int) -> bool:
    try:
        return bool(verifier.verify(number, dnsfunc=lambda name, timeout=5: RECORDS.get(name)))
    except dkim.ValidationError:
        return False


def tags(field: bytes) -> dict[str, str]:
    text = field.decode().partition(":")[2].replace("\r\n\t", "")
    return {name.strip(): value for name, _, value in (tag.partition("=") for tag in text.split(";"))}


# ------------------------------------------------------------ another program believes them


@pytest.mark.parametrize("name", MESSAGES)
def test_dkimpy_verifies(name: str) -> None:
    assert verdicts(signed(MESSAGES[name])) == [True, True]


@pytest.mark.parametrize(
    "change",
    [
        (b"hello", b"hullo"),
        (b"Subject: hi", b"Subject: ho"),
        (b"Subject: hi", b"Subject: hi\r\nSubject: added"),
        (b"From: Joe", b"From: x@y.example\r\nFrom: Joe"),
        (b"Date: x", b"Date: x\r\nReply-To: else@where.example"),
        (b"hello\r\n", b"hello\r\n\r\nappended\r\n"),
    ],
)
def test_what_is_changed_is_not_believed(change: tuple[bytes, bytes]) -> None:
    assert verdicts(signed(SIMPLE).replace(*change)) == [False, False]


def test_what_relays_do_leaves_it_whole() -> None:
    message = b"Received: from x by y; z\r\n" + signed(SIMPLE).replace(b"Subject: hi", b"SUBJECT:   hi ") + b"\r\n\r\n"
    assert verdicts(message) == [True, True]


LINES = st.lists(st.sampled_from([b"", b" ", b"\t ", b"a", b"a  b ", b" x\t", b"."]), max_size=12)


@settings(max_examples=150, deadline=None)
@given(LINES, st.lists(st.integers(0, 200), max_size=6))
def test_any_body_in_any_cut(lines: list[bytes], cuts: list[int]) -> None:
    message = SIMPLE + b"".join(line + b"\r\n" for line in lines)
    whole = signatures(envelope(), [message], {"here.example": (ED,)}, NOW)
    assert signatures(envelope(), _cut(message, cuts), {"here.example": (ED,)}, NOW) == whole
    assert verdicts(whole + message) == [True]


def _cut(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    begin = 0
    for cut in sorted(cuts):
        yield data[begin:cut]
        begin = max(begin, min(cut, len(data)))
    yield data[begin:]


def test_the_fields() -> None:
    rsa, ed = signatures(envelope(), [SIMPLE], KEYS, NOW).split(b"DKIM-Signature")[1:]
    found = tags(b"DKIM-Signature" + rsa)
    assert found | {"bh": "", "b": ""} == {
        "v": "1",
        "a": "rsa-sha256",
        "c": "relaxed/relaxed",
        "d": "here.example",
        "s": "r1",
        "t": str(NOW),
        "h": "from:from:reply-to:subject:subject:date:date:to:to:cc",
        "bh": "",
        "b": "",
    }
    assert tags(ed)["a"] == "ed25519-sha256"
    assert "l" not in found  # RFC 8460 section 3 forbids it
    assert max(map(len, rsa.split(b"\r\n"))) <= 78


# ------------------------------------------------------------ whose key


@pytest.mark.parametrize(
    ("of", "author", "selectors"),
    [
        (envelope("joe@here.example"), "joe@here.example", ["r1", "e1"]),
        (envelope("joe@mail.here.example"), "joe@box.here.example", ["r1", "e1"]),
        (envelope(None), "joe@here.example", ["r1", "e1"]),
        (envelope("joe@else.example"), "x@other.example", ["o1"]),
        (envelope("joe@here.example"), "x@else.example", ["r1", "e1"]),
        (envelope("joe@else.example"), "x@nothere.example", []),
        (envelope("joe@here.example", "ESMTPS", "joe@here.example"), "joe@HERE.example", ["r1", "e1"]),
        # Let in for one domain, writing in the name of another.
        (envelope("joe@here.example", "ESMTPS", "joe@here.example"), "boss@other.example", ["r1", "e1"]),
        (envelope("joe@else.example", "ESMTPS", "label"), "joe@here.example", []),
        (envelope(None, "ESMTPS", "label"), "joe@here.example", []),
    ],
)
def test_whose_key(of: Envelope, author: str, selectors: list[str]) -> None:
    message = SIMPLE.replace(b"joe@here.example", author.encode())
    fields = signatures(of, [message], KEYS, NOW)
    assert [tags(b":" + field)["s"] for field in fields.split(b"DKIM-Signature:")[1:]] == selectors


def test_whose_mail_is_ours() -> None:
    assert is_ours(envelope())
    assert is_ours(envelope(protocol="ESMTPS", identity="joe@client.example"))
    assert not is_ours(envelope(protocol="ESMTPS"))


@pytest.mark.parametrize(
    ("value", "domain"),
    [
        (b" joe@A.Example", "a.example"),
        (b' "x@y.example" <joe@a.example>', "a.example"),
        (b" Joe (of <x@y.example> (and z@y)) <joe@a.example>", "a.example"),
        (b' "joe@x"@a.example', "a.example"),
        (b" joe@a.example, ann@b.example", "a.example"),
        (b" Joe\r\n <joe@a.example >", "a.example"),
        (" j@bücher.example".encode(), "xn--bcher-kva.example"),
        (b" nobody:;", ""),
        (b" joe", ""),
        (b" joe@../../etc", ""),
        (b" joe@[192.0.2.1]", ""),
        (b" \xff@\xff", ""),
        (b"(" * 100_000, ""),
        (b'"\\' * 100_000, ""),
    ],
)
def test_the_domain_of_an_author(value: bytes, domain: str) -> None:
    assert author_domain(value) == domain


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (SIMPLE.replace(b"To:", b"From: x@y\r\nTo:"), "two From fields"),
        (b"From joe\r\n" + SIMPLE, "no field"),
        (b"X: " + b"y" * MAX_HEADER + b"\r\n" + SIMPLE, "longer than"),
    ],
)
def test_what_cannot_be_signed(message: bytes, why: str) -> None:
    with pytest.raises(Unsignable, match=why):
        signatures(envelope(), [message[:100], message[100:]], KEYS, NOW)


# ------------------------------------------------------------ time and memory


def test_a_body_of_blanks_takes_no_time() -> None:
    """Patterns that look for blanks before a line end may need the square of their number."""
    start = time.process_time()
    for filler in (b" " * 1_000_000, b" \t" * 500_000, b"\r\n" * 500_000, b" \r\n" * 300_000):
        signatures(envelope(), [SIMPLE, filler, b"x\r\n"], {"here.example": (ED,)}, NOW)
    assert time.process_time() - start < 2.0


def test_a_small_message_costs_little() -> None:
    message = SIMPLE + b"a line of text, as long as lines are, in a message.\r\n" * 75
    start = time.process_time()
    for _ in range(100):
        signatures(envelope(), [message], {"here.example": (RSA,)}, NOW)
    assert (time.process_time() - start) / 100 < 0.005
