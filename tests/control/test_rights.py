from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from qmtls.access import AccessRules
from qmtls.control.rights import read_access
from qmtls.smtp.address import parse_address
from tests.control.directory import reader


def access(control: Path, files: dict[str, str | bytes]) -> AccessRules:
    made = reader(control, files)
    rules = read_access(made, "mail.example.org")
    assert not made.problems, made.problems
    return rules


def test_without_files_only_our_own_name_is_taken_never_everything(tmp_path: Path) -> None:
    rules = access(tmp_path, {})
    assert rules.locals == rules.rcpt_hosts == {"mail.example.org"}
    assert rules.networks == () and rules.clients.rules == () and rules.bad_mail_from == frozenset()
    assert rules.local_ip_host == rules.postmaster_host == "mail.example.org"


def test_a_missing_rcpthosts_is_me_and_locals(tmp_path: Path) -> None:
    rules = access(tmp_path, {"locals": "A.example\nb.example.\n", "morercpthosts": "c.example\n"})
    assert rules.locals == {"a.example", "b.example"}
    assert rules.rcpt_hosts == {"mail.example.org", "a.example", "b.example", "c.example"}
    assert rules.postmaster_host == "a.example"


def test_rcpthosts_and_morercpthosts(tmp_path: Path) -> None:
    rules = access(tmp_path, {"rcpthosts": "A.example\n.B.example\n[192.0.2.1]\n", "morercpthosts": "c.example\n"})
    assert rules.rcpt_hosts == {"a.example", ".b.example", "[192.0.2.1]", "c.example"}


def test_an_empty_rcpthosts_takes_nothing(tmp_path: Path) -> None:
    assert access(tmp_path, {"rcpthosts": ""}).rcpt_hosts == frozenset()


def test_a_compiled_morercpthosts_without_its_text_is_a_problem(tmp_path: Path) -> None:
    made = reader(tmp_path, {"morercpthosts.cdb": b"\0"})
    read_access(made, "me")
    assert [str(p.origin) for p in made.problems] == ["control/morercpthosts.cdb"]
    assert access(tmp_path, {"morercpthosts": ""}).rcpt_hosts


def test_other_lists(tmp_path: Path) -> None:
    rules = access(
        tmp_path,
        {
            "badmailfrom": "Spam@Bad.example\n@worse.example.\n",
            "relaynetworks": "192.0.2.0/24\n2001:db8::1\n",
            "localiphost": "Here.example",
            "tlsclients": "Alice@Example.org\n",
            "tlssenders": "A.example tls\n",
        },
    )
    assert rules.bad_mail_from == {"spam@bad.example", "@worse.example"}
    assert rules.networks == (ip_network("192.0.2.0/24"), ip_network("2001:db8::1/128"))
    assert rules.local_ip_host == "here.example"
    assert set(rules.senders) == {"a.example"}
    (rule,) = rules.clients.rules
    assert (rule.value, rule.text, str(rule.origin)) == (
        *("alice@example.org", "Alice@Example.org", "control/tlsclients:1"),
    )


@pytest.mark.parametrize(
    ("line", "sender"),
    [
        ("@Bücher.example", "x@bücher.example"),
        ("@bücher.example", "x@XN--BCHER-KVA.example"),
        ("@xn--bcher-kva.example", "x@bücher.example"),
        ("Jürgen@bücher.example", "JÜRGEN@xn--bcher-kva.example"),
        ('"Joe"@a.example', "joe@a.example"),
        ('"j\\oe"@a.example.', '"JOE"@A.example'),
        ('"joe doe"@a.example', '"Joe\\ Doe"@a.example'),
        ("@[192.0.2.1]", "x@[192.0.2.1]"),
        ("@a_b.example", "x@a_b.example"),
    ],
)
def test_a_bad_sender_however_it_is_written(tmp_path: Path, line: str, sender: str) -> None:
    rules = access(tmp_path, {"badmailfrom": f"{line}\n"})
    path = parse_address(sender, smtputf8=True)
    assert {f"@{path.host}", f"{path.local_part.lower()}@{path.host}"} & rules.bad_mail_from


@pytest.mark.parametrize("line", ["bad.example", "@", "a b@c.example", "@a..example", "@.example"])
def test_a_bad_sender_that_nobody_can_be_is_told(tmp_path: Path, line: str) -> None:
    made = reader(tmp_path, {"badmailfrom": f"{line}\n"})
    assert read_access(made, "me").bad_mail_from == frozenset()
    assert "never matches" in made.warnings[0].what


@pytest.mark.parametrize(
    ("file", "line"),
    [
        *(("locals", line) for line in (".a.example", " a.example", "a b", "user@a.example")),
        *(("rcpthosts", line) for line in (" a.example", "*", "a.example # text", "..a")),
        *(("relaynetworks", line) for line in ("192.0.2.1/24", "localhost", "192.0.2.*")),
        *(("localiphost", line) for line in ("a b", "192.0.2.1:25")),
    ],
)
def test_a_bad_line_is_a_problem_with_its_number(tmp_path: Path, file: str, line: str) -> None:
    made = reader(tmp_path, {file: f"{line}\n"})
    read_access(made, "me")
    (problem,) = made.problems
    assert str(problem.origin) == f"control/{file}:1" and problem.mend


def test_lines_that_cannot_mean_well_are_told(tmp_path: Path) -> None:
    made = reader(tmp_path, {"badmailfrom": "bad.example\n", "relaynetworks": "::/0\n"})
    read_access(made, "me")
    assert [str(w.origin) for w in made.warnings] == ["control/relaynetworks:1", "control/badmailfrom:1"]
