"""What the header section says, in every cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmtls.smtp.header import MAX_HEADER, HeaderScan, says_nothing
from tests.smtp.dialogue import CUTS, Cut, at, whole

FULL = b"Date: x\r\nFROM : a\r\nmessage-Id:\r\n <1@b>\r\nTLS-Required: no\r\n\r\nbody\r\n\r\nFrom: not me\r\n"


def scan(pieces: list[bytes]) -> HeaderScan:
    found = HeaderScan()
    for piece in pieces:
        if found.feed(piece):
            break
    else:
        found.finish()
    return found


def told(found: HeaderScan) -> tuple[bool, ...]:
    return (found.over, found.whole, found.has_date, found.has_message_id, found.tls_optional)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("content", "names"),
    [
        (FULL, "date message-id optional"),
        (b"", ""),
        (b"\r\nDate: in the body\r\n", ""),
        (b"Subject: x\r\n Date: folded\r\n\tFrom: folded\r\n\r\nDate: x\r\n", ""),
        (b"X-Date: x\r\nDates: y\r\nDate\r\n : z\r\n\r\n", ""),
        (b"Date:x", "date"),
        (b"From: a\r\nDate: x\r\n", "date"),
        (b"TLS-Required: \tNo \r\n\r\n", "optional"),
        (b"tls-required:\r\n NO\r\n\r\n", "optional"),
        (b"TLS-Required: yes\r\n\r\n", ""),
        (b"TLS-Required: no (really)\r\n\r\n", ""),
        (b"TLS-Required: no\r\nTLS-Required: no\r\n\r\n", ""),
        (b"TLS-Required: no\r\n way\r\n\r\n", ""),
        (b"Subject: x\r\n\r\nTLS-Required: no\r\n\r\n", ""),
    ],
)
def test_findings(content: bytes, names: str, cut: Cut) -> None:
    wanted = [name in names.split() for name in ("date", "message-id", "optional")]
    assert told(scan(cut(content))) == (True, True, *wanted)


def test_nothing_is_certain_before_the_end() -> None:
    found = HeaderScan()
    assert not found.feed(b"Date: x\r\n")
    assert not found.feed(b"\r")
    assert found.feed(b"\nbody")
    assert found.feed(b"more")
    assert found.whole and found.has_date


@pytest.mark.parametrize("cut", [whole, at(*range(0, 200_000, 4096))])
def test_a_header_without_an_end_is_held_only_so_far(cut: Cut) -> None:
    line = b"X: " + b"y" * 95 + b"\r\n"
    content = b"Date: x\r\n" + line * 6000 + b"From: a\r\nTLS-Required: no\r\n\r\n"
    assert told(scan(cut(content))) == (True, False, True, False, False)


def test_the_limit_itself_is_no_matter() -> None:
    field = b"X: " + b"y" * (MAX_HEADER - 13) + b"\r\n"
    assert scan([b"Date: x\r\n" + field]).whole is False
    assert scan([field + b"\r\n"]).whole is True


def test_a_wish_that_may_go_on_beyond_the_limit_is_none() -> None:
    long = b"X: " + b"y" * MAX_HEADER + b"\r\n"
    assert not scan([b"TLS-Required: no\r\n" + long + b"TLS-Required: yes\r\n\r\n"]).tls_optional
    begin = b"X: " + b"y" * (MAX_HEADER - 21) + b"\r\nTLS-Required: no"
    assert len(begin) == MAX_HEADER
    assert not scan([begin + b"-one knows\r\n\r\n"]).tls_optional


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from([b"Date", b"From", b":", b" ", b"x", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"TLS-Required: no"]),
        max_size=20,
    ),
    st.lists(st.integers(0, 100), max_size=8),
)
def test_the_cut_does_not_matter(parts: list[bytes], places: list[int]) -> None:
    content = b"".join(parts)
    assert told(scan([content])) == told(scan(at(*places)(content))) == told(scan([content[:1], content[1:]]))


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("content", "headless"),
    [
        (b" folded\r\nTLS-Required: no\r\nDate: x\r\n\r\n", True),
        (b"\tfolded\r\n\r\n", True),
        (b"no field\r\nDate: x\r\n\r\n", True),
        (b": x\r\n\r\n", True),
        (b"no line end", True),
        (b"x" * 998 + b":\r\n\r\n", False),
        (b"x" * 999 + b":\r\n\r\n", True),
        (b"", False),
        (b"\r\nno field\r\n", False),
        (b"Subject: x\r\nno field\r\n\r\n", False),
        (b"Not grammar : x\r\n\r\n", False),
        (b"From joe Mon\r\nSubject: x\r\n\r\n", False),
        (b">From joe Mon\r\nSubject: x\r\n\r\n", False),
    ],
)
def test_content_without_a_header(content: bytes, headless: bool, cut: Cut) -> None:
    found = scan(cut(content))
    assert found.headless is headless
    assert not (headless and (says_nothing(content) or found.has_date or found.tls_optional))
    assert found.whole


@given(st.lists(st.sampled_from([b"Date: x\r\n", b"x", b" ", b"\r\n", b"X:" + b"y" * 40_000])), st.integers(1, 50_000))
def test_what_was_fed_comes_back(parts: list[bytes], step: int) -> None:
    content = b"".join(parts)
    found, fed = HeaderScan(), 0
    while fed < len(content) and not found.over:
        found.feed(content[fed : fed + step])
        fed += step
    found.finish()
    assert found.take() == content[:fed]
    assert found.take() == b""


@pytest.mark.parametrize(
    ("content", "nothing"),
    [
        (b"Subject: x\r\n\r\nTLS-Required: no\r\n", True),
        (b"Subject: x\r\n", False),
        (b"TLS-Required: yes\r\n\r\n", False),
        (b"X: 1\r\ntls-reQUIRED :\r\n no\r\n\r\n", False),
        (b"\r\n\r\n", True),
    ],
)
def test_most_headers_need_no_scan(content: bytes, nothing: bool) -> None:
    assert says_nothing(content) is nothing


@given(st.lists(st.sampled_from([b"TLS-Required: no", b"\r\n", b"x", b": ", b"\r\n\r\n", b"tls-required:no\r\n"])))
def test_who_needs_no_scan_has_no_wish(parts: list[bytes]) -> None:
    content = b"".join(parts)
    scan = HeaderScan()
    if not scan.feed(content):
        scan.finish()
    assert not (says_nothing(content) and scan.tls_optional)
