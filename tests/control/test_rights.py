from __future__ import annotations

from base64 import b64encode
from ipaddress import ip_network
from pathlib import Path

import pytest

from qmtls.access import AccessRules
from qmtls.control.lists import BadValueError, Line
from qmtls.control.rights import client_rule, read_access
from qmtls.tls.policy import Origin
from tests.control.directory import reader

HEX = "0f" * 32
SPKI = b64encode(bytes.fromhex(HEX)).decode()


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
        },
    )
    assert rules.bad_mail_from == {"spam@bad.example", "@worse.example"}
    assert rules.networks == (ip_network("192.0.2.0/24"), ip_network("2001:db8::1/128"))
    assert rules.local_ip_host == "here.example"
    (rule,) = rules.clients.rules
    assert (rule.value, rule.text, str(rule.origin)) == (
        *("alice@example.org", "Alice@Example.org", "control/tlsclients:1"),
    )


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


def rule(text: str) -> tuple[str, str]:
    made = client_rule(Line(text, Origin("control/tlsclients", 1)))
    return made.kind, made.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Alice+X@Example.org", ("email", "alice+x@example.org")),
        (f"sha256:{HEX}", ("sha256", HEX)),
        ("SHA256:" + ":".join(["0F"] * 32), ("sha256", HEX)),
        (f"spki:{SPKI}", ("spki", HEX)),
    ],
)
def test_client_rules(text: str, expected: tuple[str, str]) -> None:
    assert rule(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("alice", "no e-mail address"),
        ("älice@example.org", "no e-mail address"),
        ("@example.org", "no e-mail address"),
        ("alice@example.org from=@example.org", "'from=@example.org' behind a rule (a scope) is not supported"),
        ("alice@example.org\trate=1/h", "(a scope) is not supported"),
        (f"spki:{SPKI} label=x", "(a scope) is not supported"),
        (" alice@example.org", "not supported"),
        ('dn:"CN=alice"', "dn: rules are not supported by this version"),
        ("san:email:alice@example.org", "san: rules are not supported by this version"),
        ("md5:abcd", "'md5' is no kind of rule"),
        ("sha256:abcd", "no SHA-256 digest"),
        ("spki:abcd", "no base64"),
        ("sha256:", "no SHA-256 digest"),
    ],
)
def test_a_rule_is_never_read_as_something_weaker(text: str, words: str) -> None:
    with pytest.raises(BadValueError) as caught:
        rule(text)
    assert words in caught.value.what and caught.value.mend
