"""Rules of outbound TLS that contradict each other, never apply, or end."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.control.directory import compiled
from tests.control.test_describe import findings
from tests.tls.pki import NOW, certificate, host, key_pem, pem

DAY = timedelta(days=1)
LEAF, CA = host("mx.a.example"), certificate("ca", ca=True)


def of(path: Path, file: str, files: dict[str, str | bytes]) -> list[str]:
    return [text for text in findings(path, files) if text.partition(": ")[2].startswith(f"control/{file}")]


@pytest.mark.parametrize(("days", "words"), [(-1, "ended 2026-05-31"), (13, "ends 2026-06-14"), (15, "")])
def test_a_pinned_certificate_that_will_be_renewed(tmp_path: Path, days: int, words: str) -> None:
    leaf = certificate("x", until=NOW + days * DAY)
    found = [text for text in findings(tmp_path, {"a.example.pem": pem(leaf)}) if text.startswith("warning")]
    assert bool(found) is bool(words)
    assert all(words in text and "add that key to this file before" in text for text in found)


def test_the_latest_of_several_keys_counts(tmp_path: Path) -> None:
    old = certificate("x", until=NOW - DAY)
    assert not [t for t in findings(tmp_path, {"a.example.pem": pem(old, LEAF)}) if t.startswith("warning")]


def test_a_ca_where_a_leaf_may_be_meant(tmp_path: Path) -> None:
    itself = host("a.example", ca=True)
    (text,) = of(tmp_path / "a", "a.example.pem", {"a.example.pem": pem(CA)})
    assert "put its own certificate here instead" in text
    (text,) = of(tmp_path / "b", "a.example.pem", {"a.example.pem": pem(itself)})
    assert "instead" not in text


def test_a_leaf_where_a_ca_is_meant(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"tlspolicy": "a.example secure tafile=ca.crt\n", "ca.crt": pem(LEAF, CA)}
    (text,) = findings(tmp_path, files)
    assert text.startswith("warning: control/tlspolicy:1: tafile= holds CN=host, which is no CA")


def test_anchors_of_lines_and_of_the_default_end(tmp_path: Path) -> None:
    old = certificate("old", ca=True, until=NOW + DAY)
    files: dict[str, str | bytes] = {
        "tlspolicy": "a.example secure tafile=ca.crt\n",
        "tlsdefault": "verify tafile=ca.crt\n",
        "ca.crt": pem(old),
    }
    found = findings(tmp_path, files)
    assert [text.split(": ")[1] for text in found] == ["control/tlsdefault:1", "control/tlspolicy:1"]
    assert all("expires 2026-06-02" in text for text in found)


@pytest.mark.parametrize("line", ["a.example may", "[a.example]:25 may", "[a.example] encrypt"])
def test_a_line_behind_a_pin(tmp_path: Path, line: str) -> None:
    (text,) = of(tmp_path, "tlspolicy", {"tlspolicy": line, "a.example.pem": pem(LEAF)})
    assert "is never used: control/a.example.pem goes before it" in text


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "a.example may until=2026-05-31",
            "note: control/tlspolicy:1: until=2026-05-31 has passed; the line has ended",
        ),
        (".a.example none until=2026-05-31", "no rule (the default, dane) applies: remove it"),
        ("[a.example]:25 none until=2026-05-31", "no rule (the default, dane) applies"),
        (
            "a.example secure until=2026-05-31",
            "warning: control/tlspolicy:1: until=2026-05-31 has passed; the line stays",
        ),
    ],
)
def test_a_passed_date_ends_a_line_only_where_it_was_the_weaker_rule(tmp_path: Path, line: str, words: str) -> None:
    (text,) = findings(tmp_path, {"tlspolicy": line})
    assert words in text


def test_flags_that_say_the_same_or_hide_the_rest(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "tlshosts/exhaustivelist": "",
        "notlshosts/mx.a.example": "",
        "tlsdefault": "encrypt\n",
        "mx.b.example.pem": pem(LEAF),
    }
    found = findings(tmp_path / "a", files)
    assert any(t.startswith("note: control/notlshosts/mx.a.example: says of mx.a.example what") for t in found)
    assert any(t.startswith("warning: control/tlsdefault:1: is used for relays by address only") for t in found)
    (text,) = findings(tmp_path / "b", {"tlshosts/exhaustivelist": ""})
    assert "all mail to hosts with a name goes in plaintext" in text


def test_whom_we_show_what(tmp_path: Path) -> None:
    ours = certificate("ours", until=NOW + DAY)
    files: dict[str, str | bytes] = {
        "clientcerts/a.example.pem": "none",
        "clientcerts/b.example.pem": key_pem("ours") + pem(ours),
    }
    assert compiled(tmp_path, files)
    found = findings(tmp_path, files)
    assert "note: control/clientcerts/a.example.pem: no certificate of ours is shown to a.example" in found
    assert any(t.startswith("note: control/clientcerts/b.example.pem: shown to b.example") for t in found)
    assert any(t.startswith("warning: control/clientcerts/b.example.pem: the certificate CN=ours") for t in found)
