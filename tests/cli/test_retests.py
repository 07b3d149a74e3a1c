"""What is said of mail that waits for TLS, beside what the listing's tests show."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from qmtls.cli.bins import Queue
from qmtls.cli.home import Home
from qmtls.cli.output import local_time
from qmtls.cli.retests import end_words, first_probe, since, tls_words
from qmtls.delivery.schedule import FIRST_RETEST
from tests.cli.test_queue import ARRIVED, put, waits_for_tls


def test_when_the_wait_ends(home: Path) -> None:
    waits_for_tls(home, "0004d")
    put(home, "0001a", "first@b.test ann@b.test")
    with Queue(home / "queue", lambda trouble: None) as queue:
        waiting, other = queue.find(["0004d", "0001a"], time.time())
        assert local_time(ARRIVED + 5000) in end_words(waiting, 5000.0)
        assert since(other) == {}
        assert tls_words(other, 300.0) == end_words(other, 5000.0) == ""


@pytest.mark.parametrize(
    ("content", "seconds"),
    [(b"90\n", 90.0), (b" 0 \n# none", 0.0), (b"", None), (b"-1\n", None), (b"\xff\n", None), (None, FIRST_RETEST)],
)
def test_the_file_as_the_service_reads_it(tmp_path: Path, content: bytes | None, seconds: float | None) -> None:
    for part in ("control", "queue"):
        (tmp_path / part).mkdir()
    if content is not None:
        (tmp_path / "control/policyretest").write_bytes(content)
    assert first_probe(Home(tmp_path)) == seconds


@pytest.mark.parametrize(("first", "words"), [(45.0, "45s after"), (300.0, "5m after"), (7200.0, "2h after")])
def test_spans(home: Path, first: float, words: str) -> None:
    waits_for_tls(home, "0004d")
    with Queue(home / "queue", lambda trouble: None) as queue:
        (entry,) = queue.find(["0004d"], time.time())
        assert words in tls_words(entry, first)
