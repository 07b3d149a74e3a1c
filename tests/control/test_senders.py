from __future__ import annotations

from pathlib import Path

import pytest

from qmtls.control.senders import read_senders
from tests.control.directory import problems, reader, warnings


def test_lines(tmp_path: Path) -> None:
    lines = 'A.example tls\n.b.example\tcert=alice@B.example,dn:"CN=a,O=b c",spki:' + "A" * 43 + "=\n"
    found = read_senders(reader(tmp_path, {"tlssenders": lines}))
    assert set(found) == {"a.example", ".b.example"}
    assert found["a.example"].identities == frozenset()
    assert found[".b.example"].identities == {
        *(("email", "alice@b.example"), ("dn", "2.5.4.10=b c,2.5.4.3=a"), ("spki", "00" * 32)),
    }
    assert str(found[".b.example"].origin) == "control/tlssenders:2"


def test_no_file(tmp_path: Path) -> None:
    assert read_senders(reader(tmp_path, {})) == {}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a.example", "is not a domain with what it demands"),
        (" a.example tls", "is not a domain with what it demands"),
        ("a.example tls cert=a@a.example", "is not a domain with what it demands"),
        ("a.example TLS", "'TLS' is no demand"),
        ("a.example cert", "'cert' is no demand"),
        ("a.example cert=", "an empty entry"),
        ("a.example cert=a@a.example,", "an empty entry"),
        ("a.example cert=dn:CN=a,O=b", "'O=b' is no e-mail address"),
        ("a.example cert=md5:00", "is no kind of rule"),
        ("@a.example tls", "is no host name"),
        ("user@a.example tls", "is no host name"),
    ],
)
def test_a_bad_line_is_a_problem(tmp_path: Path, line: str, words: str) -> None:
    (problem,) = problems(tmp_path, {"tlssenders": f"# senders\n{line}\n"})
    assert problem.startswith("control/tlssenders:2: ") and words in problem


def test_a_domain_has_one_line(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, {"tlssenders": "a.example tls\nA.Example. tls\n"})
    assert problem.startswith("control/tlssenders:2: a.example is here for the second time; make one line")


def test_a_demand_that_nobody_can_meet_is_told(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"tlssenders": "a.example cert=a@a.example\nb.example tls\n"}
    assert warnings(tmp_path, files)[0].startswith("control/tlssenders:1: no mail of a.example is taken without")
    assert len(warnings(tmp_path, files)) == 1
