"""8-bit messages made ASCII: what a mail reader sees stays the same, octet for octet."""

from __future__ import annotations

from email import message_from_bytes
from email.message import Message
from email.policy import compat32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmtls.delivery.sevenbit import MAX_DEPTH, MAX_HEADER, Unconvertible, survey, to_seven_bit

LATIN = b"gr\xfc\xdfe\r\n"


def converted(message: bytes, cuts: int = 1 << 20) -> bytes:
    chunks = [message[n : n + cuts] for n in range(0, len(message), cuts)]
    return b"".join(to_seven_bit(chunks, survey(chunks)))


def leaves(message: bytes) -> list[tuple[str, bytes]]:
    """Type and decoded text of each part, as Python's parser sees them."""
    found: list[tuple[str, bytes]] = []
    for part in message_from_bytes(message, policy=compat32).walk():
        assert isinstance(part, Message)
        if not part.is_multipart():
            text = part.get_payload(decode=True)
            assert isinstance(text, bytes)
            found.append((part.get_content_type(), text))
    return found


def part(encoding: str, text: bytes, type_: str = "text/plain") -> bytes:
    field = f"Content-Transfer-Encoding: {encoding}\r\n" if encoding else ""
    return f"Content-Type: {type_}; x=y\r\n{field}\r\n".encode() + text


def multipart(*parts: bytes, boundary: str = "b", subtype: str = "mixed", more: str = "") -> bytes:
    head = f"MIME-Version: 1.0\r\nContent-Type: multipart/{subtype};\r\n\tboundary={boundary}\r\n{more}\r\n"
    frame = f"--{boundary}"
    return (
        head.encode()
        + b"preamble \xe4\r\n"
        + b"".join(frame.encode() + b"\r\n" + each for each in parts)
        + f"{frame}--\r\n".encode()
        + b"epilogue \xe4\r\n"
    )


def nested(depth: int) -> bytes:
    message = part("8bit", LATIN)
    for n in range(depth):
        message = multipart(message, boundary=f"b{n}")
    return message


def test_a_message_of_old() -> None:
    """No MIME at all: it says afterwards what nobody knows (RFC 1428)."""
    made = converted(b"Subject: x\r\n\r\n" + LATIN)
    assert made == (
        b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\ngr=FC=DFe\r\n"
    )


def test_a_message_without_a_header() -> None:
    made = converted(b"\r\n" + LATIN)
    assert leaves(made) == [("text/plain", LATIN)]


def test_one_part_that_says_what_it_is() -> None:
    made = converted(
        b"MIME-Version: 1.0\r\nContent-Type: text/plain;\r\n charset=iso-8859-1\r\ncontent-transfer-encoding: 8bit\r\n"
        b"X: y\r\n z\r\n\r\n" + LATIN + b"a=b \r\n.\r\n"
    )
    assert made == (
        b"MIME-Version: 1.0\r\nContent-Type: text/plain;\r\n charset=iso-8859-1\r\nX: y\r\n z\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\ngr=FC=DFe\r\na=3Db=20\r\n=2E\r\n"
    )


def test_parts_within_parts() -> None:
    """Each part by itself, those that are ASCII untouched, and no container calls itself 8-bit any more."""
    inner = multipart(part("8bit", LATIN), part("base64", b"Zm9v\r\n"), boundary="inner", more="")
    message = multipart(
        part("", b"plain\r\n"),
        part("8bit", LATIN * 3, "text/html"),
        part("binary", bytes(range(128, 256)) + b"\r\n", "application/octet-stream"),
        part("8bit", b"ascii after all\r\n"),
        inner,
        part("8bit", b"Subject: inside\r\n\r\n" + LATIN, "message/rfc822"),
        more="Content-Transfer-Encoding: 8bit\r\n",
    )
    made = converted(message)
    assert made.isascii()
    assert leaves(made) == leaves(message)
    assert b"8bit" not in made.replace(b"unknown-8bit", b"") and b"binary" not in made
    assert b"--b\r\nContent-Type: text/plain; x=y\r\n\r\nplain\r\n--b\r\n" in made
    assert made.count(b"MIME-Version") == message.count(b"MIME-Version")
    assert b"preamble ?" in made and b"epilogue ?" in made


def test_parts_may_lie_deep() -> None:
    message = nested(MAX_DEPTH)
    assert leaves(converted(message)) == leaves(message)


def test_a_digest_is_made_of_messages() -> None:
    message = multipart(b"\r\nSubject: one\r\n\r\n" + LATIN, b"\r\nSubject: two\r\n\r\ntwo\r\n", subtype="digest")
    made = converted(message)
    assert made.isascii() and leaves(made) == leaves(message)
    assert b"\r\n\r\nSubject: one\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" in made


def test_text_without_a_last_line_end() -> None:
    assert converted(b"Subject: x\r\n\r\nab\xfc").endswith(b"\r\n\r\nab=FC")


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"Subject: \xfc\r\n\r\nx\r\n", "header"),
        (multipart(b"X: \xfc\r\n\r\nx\r\n"), "header"),
        (multipart(part("", b"Subject: \xfc\r\n\r\nx\r\n", "message/rfc822")), "header"),
        (part("quoted-printable", LATIN), "encoding"),
        (part("base64", LATIN), "encoding"),
        (part("x-unknown", LATIN), "encoding"),
        (part("8bit", LATIN, "message/partial"), "encoding"),
        (b"Subject: x\r\nno field\r\n\r\n" + LATIN, "encoding"),
        (part("8bit", LATIN, "multipart/mixed"), "encoding"),
        (part("base64", b"\xfc\r\n", "message/rfc822"), "base64"),
        (b"X: " + b"y" * MAX_HEADER + b"\r\n" + b"Z: z\r\n" * 20_000, "without an end"),
        (nested(MAX_DEPTH + 1), "too many"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_cannot_be_converted(message: bytes, why: str) -> None:
    found = survey([message])
    assert why in found.obstacle
    with pytest.raises(Unconvertible, match=why):
        list(to_seven_bit([message], found))


def test_a_long_header_is_seen_through_many_chunks() -> None:
    head = b"".join(b"X-%d: y\r\n" % n for n in range(30_000))
    assert len(head) < MAX_HEADER
    assert converted(head + b"\r\n" + LATIN, cuts=4096).startswith(head)


def test_a_folded_line_never_becomes_a_boundary() -> None:
    line = b"x" * 72 + b"\xfc" + b"--b"
    for shift in range(10):
        text = line[shift:] + b"\r\n"
        message = multipart(part("8bit", text + LATIN))
        try:
            made = converted(message)
        except Unconvertible:
            continue
        assert leaves(made) == leaves(message)


def test_what_is_beyond_ascii_is_told_apart() -> None:
    assert not survey([b"Subject: x\r\n\r\n" + LATIN]).header
    assert survey([multipart(b"X: \xfc\r\n\r\nx\r\n")]).header
    plain = survey([b"Subject: x\r\n\r\nx\r\n"])
    assert (plain.header, plain.parts, plain.obstacle) == (False, frozenset(), "")


TEXT = st.lists(
    st.sampled_from([b"", b".", b"--", b"--bx", b"--b--x", b"\xfc" * 30, b"a =3D \t", b"x" * 200, b"From me"]),
    max_size=6,
).map(lambda lines: b"".join(line + b"\r\n" for line in lines))
ENCODING = st.sampled_from(["", "7bit", "8bit", "binary"])
LEAF = st.builds(part, ENCODING, TEXT, st.sampled_from(["text/plain", "text/html", "image/png"]))
INSIDE = LEAF | st.builds(lambda text: part("8bit", b"Subject: x\r\n\r\n" + text, "message/rfc822"), TEXT)
MESSAGE = st.builds(lambda parts: multipart(*parts, boundary="b"), st.lists(INSIDE, min_size=1, max_size=4))


@given(MESSAGE | st.builds(lambda text: b"Subject: x\r\n\r\n" + text, TEXT), st.integers(1, 200))
def test_a_reader_sees_the_same_however_it_was_cut(message: bytes, cuts: int) -> None:
    try:
        made = converted(message)
    except Unconvertible:
        return
    assert made.isascii()
    assert leaves(made) == leaves(message)
    assert converted(message, cuts) == made


@given(st.binary(max_size=400), st.integers(1, 50))
def test_nothing_makes_it_fail_otherwise(junk: bytes, cuts: int) -> None:
    message = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + junk.replace(b"@", b"\r\n--b")
    try:
        assert converted(message, cuts).isascii()
    except Unconvertible:
        pass
