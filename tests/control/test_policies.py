from __future__ import annotations

from base64 import b64encode
from datetime import date
from pathlib import Path

import pytest

from qmtls.control.lists import BadValueError
from qmtls.control.policies import CIPHER_GRADES, min_version, read_default, read_policy_lines
from qmtls.tls.pin import certificate_digest, key_digest
from qmtls.tls.policy import Level, PolicyLine
from tests.control.directory import reader
from tests.tls.pki import certificate, host, pem

LEAF, CA = host("mx.example.org"), certificate("ca", ca=True)
HEX, SPKI = certificate_digest(LEAF).hex(), b64encode(key_digest(LEAF)).decode()
COLONS = ":".join(HEX[n : n + 2] for n in range(0, 64, 2)).upper()


def one(control: Path, line: str) -> PolicyLine:
    files = reader(control, {"tlspolicy": line, "ca.crt": pem(CA)})
    lines = read_policy_lines(files)
    assert not files.problems, files.problems
    (found,) = lines.values()
    return found


def refusal(control: Path, line: str) -> str:
    files = reader(control, {"tlspolicy": f"# one\n{line}\n", "ca.crt": pem(CA), "empty.crt": ""})
    assert read_policy_lines(files) == {}
    (problem,) = files.problems
    assert str(problem.origin) == "control/tlspolicy:2" and problem.mend
    return str(problem)


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("Example.ORG. may", "example.org"),
        (".Example.org may", ".example.org"),
        ("bücher.example may", "xn--bcher-kva.example"),
        ("[Relay.Example]:587 may", "[relay.example]:587"),
        ("[relay.example] may", "[relay.example]"),
        ("[192.0.2.1]:25 may", "[192.0.2.1]:25"),
        ("[2001:DB8::1]:25 may", "[2001:db8::1]:25"),
        ("example.org\t\tmay", "example.org"),
    ],
)
def test_keys(tmp_path: Path, line: str, key: str) -> None:
    found = one(tmp_path, line)
    assert found.domain == key
    assert found.policy.why == f"control/tlspolicy:1 ({key} may)"


@pytest.mark.parametrize("level", [*Level])
def test_each_level_by_its_name(tmp_path: Path, level: Level) -> None:
    pins = f" match=sha256:{HEX}" if level is Level.PIN else ""
    assert one(tmp_path, f"a.example {level.value.upper()}{pins}").policy.level is level


@pytest.mark.parametrize(
    "match",
    [
        f"match=sha256:{HEX}|spki:{SPKI}",
        f"match=sha256:{COLONS} match=spki:{SPKI}",
        f"match=SHA256:{HEX},match=spki:{SPKI}",
        f'match="sha256:{COLONS}|spki:{SPKI}"',
        f"\n  match=sha256:{HEX}\n\t# a comment between\n\tmatch=spki:{SPKI}",
    ],
)
@pytest.mark.parametrize("level", ["pin", "fingerprint"])
def test_pins(tmp_path: Path, level: str, match: str) -> None:
    pins = one(tmp_path, f"a.example {level} {match}").policy.pins
    assert pins.certificates == {certificate_digest(LEAF)} and pins.keys == {key_digest(LEAF)}


def test_postfixs_bare_digest_is_of_certificate_or_key(tmp_path: Path) -> None:
    pins = one(tmp_path, f"a.example fingerprint match={COLONS}").policy.pins
    assert pins.certificates == pins.keys == {certificate_digest(LEAF)}


@pytest.mark.parametrize(
    ("attributes", "names"),
    [
        ("", ()),
        ("match=hostname:nexthop:dot-nexthop", ("hostname", "nexthop", "dot-nexthop")),
        ("match=MX.Example.org:.Example.net", ("mx.example.org", ".example.net")),
        ("match=a.example|b.example match=c.example", ("a.example", "b.example", "c.example")),
    ],
)
def test_names(tmp_path: Path, attributes: str, names: tuple[str, ...]) -> None:
    assert one(tmp_path, f"a.example verify {attributes}").match == names


def test_trust_anchors(tmp_path: Path) -> None:
    assert one(tmp_path, "a.example secure tafile=ca.crt").policy.anchors == (CA,)
    assert one(tmp_path, f"a.example secure tafile={tmp_path}/ca.crt tafile=ca.crt").policy.anchors == (CA, CA)
    assert one(tmp_path, "a.example secure").policy.anchors is None


def test_notes_and_limits(tmp_path: Path) -> None:
    line = one(
        tmp_path,
        "a.example encrypt protocols=>=TLSv1.3, ciphers=high until=2027-01-31 owner=ops@x.example"
        ' reason="their new host, see #12"',
    )
    assert (line.policy.min_version, line.policy.ciphers) == ("TLSv1.3", CIPHER_GRADES["high"])
    assert (line.until, line.owner, line.reason) == (date(2027, 1, 31), "ops@x.example", "their new host, see #12")
    assert one(tmp_path, "a.example none until=2027-01-31 owner=o reason=r").owner == "o"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (">=TLSv1.2", ""),
        (">=tlsv1", ""),
        (">=TLSv1.3", "TLSv1.3"),
        ("TLSv1.3", "TLSv1.3"),
        ("TLSv1.2:TLSv1.3", ""),
        ("!SSLv2:!SSLv3", ""),
        ("!SSLv2:!SSLv3:!TLSv1:!TLSv1.1:!TLSv1.2", "TLSv1.3"),
        (">=TLSv1.2:<=TLSv1.3", ""),
    ],
)
def test_protocols_that_are_a_lowest_version(value: str, expected: str) -> None:
    assert min_version(value) == expected


@pytest.mark.parametrize("value", ["", "TLSv1.2", "<=TLSv1.2", "!TLSv1.3", "TLSv9", ">TLSv1.2", "TLSv1.3:"])
def test_protocols_that_are_none(value: str) -> None:
    with pytest.raises(BadValueError):
        min_version(value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a.example", "names no level"),
        ("a.example maybe", "'maybe' is no level"),
        ("a.example may=yes", "'may' is no level"),
        ("a.example dane", "the level dane is not supported by this version"),
        ("a.example dane-only", "the level dane-only is not supported"),
        ("a.example sts", "the level sts is not supported"),
        ("a.example secure pq=require", "the attribute 'pq' is not supported by this version"),
        ("a.example secure servername=x", "the attribute 'servername' is not supported"),
        ("a.example secure exclude=aNULL", "the attribute 'exclude' is not supported"),
        ("a.example secure Match=x", "the attribute 'Match' is not supported"),
        ("a.example secure match", "'match' has no value"),
        ("a.example secure match=", "'match' has no value"),
        ("a.example secure match=a..b", "'a..b' is no host name"),
        ("a.example secure match=a.example:", "'' is no host name"),
        (f"a.example secure match=sha256:{HEX}", "use the level pin"),
        (f"a.example may match=sha256:{HEX}", "match= means nothing at level may"),
        ("a.example encrypt tafile=ca.crt", "tafile= means nothing at level encrypt"),
        ("a.example none ciphers=high", "ciphers= means nothing at level none"),
        (f"a.example pin match=sha256:{HEX} tafile=ca.crt", "tafile= means nothing at level pin"),
        ("a.example pin", "pins nothing"),
        ("a.example fingerprint until=2027-01-01", "pins nothing"),
        ("a.example pin match=hostname", "is no SHA-256 digest"),
        ("a.example pin match=sha256:abcd", "is no SHA-256 digest"),
        (f"a.example pin match=sha256:{HEX}|", "is no SHA-256 digest"),
        (f"a.example pin match=sha256:{HEX}:spki:{SPKI}", "is no SHA-256 digest"),
        ("a.example pin match=spki:abcd", "is no base64"),
        (f"a.example pin match={'ab' * 20}", "looks like SHA-1"),
        (f"a.example pin match={'ab' * 16}", "looks like MD5"),
        ("a.example secure tafile=missing.crt", "does not exist"),
        ("a.example secure tafile=empty.crt", "holds no certificate"),
        ("a.example secure protocols=TLSv1.2", "leaves TLSv1.3 out"),
        ("a.example secure protocols=SSLv9", "is no protocol version"),
        ("a.example secure ciphers=low", "the cipher grade 'low' is not supported"),
        ("a.example secure ciphers=high ciphers=medium", "ciphers= is there twice"),
        ("a.example secure until=tomorrow", "'tomorrow' is no date"),
        ("a.example secure until=2027-02-30", "is no date"),
        ('a.example secure reason="open', "is not understood"),
        ('a.example secure reason="a"b', "is not understood"),
        ("a..example may", "is no host name"),
        ("example.org:25 may", "write [host]:port"),
        ("[a.example may", "is no host name"),
        ("[a.example]:0 may", "out of range"),
        (" a.example may", "continues nothing"),
    ],
)
def test_nothing_that_is_not_understood_is_passed_over(tmp_path: Path, line: str, words: str) -> None:
    assert words in refusal(tmp_path, line)


def test_a_key_twice_is_a_problem(tmp_path: Path) -> None:
    files = reader(tmp_path, {"tlspolicy": "a.example may\nb.example may\nA.Example. secure\n"})
    assert set(read_policy_lines(files)) == {"a.example", "b.example"}
    assert [str(p.origin) for p in files.problems] == ["control/tlspolicy:3"]
    assert "control/tlspolicy:1" in files.problems[0].what


def test_a_pasted_postfix_table(tmp_path: Path) -> None:
    table = f"""# from the TLS_README
example.edu                 none
example.mil                 may
example.gov                 encrypt protocols=TLSv1.3
example.com                 verify
        match=hostname:dot-nexthop protocols=>=TLSv1.3 ciphers=high
example.net                 secure
.example.net                secure match=.example.net:example.net
[mail.example.org]:587      secure match=nexthop

fingerprint.example         fingerprint
    match={COLONS}
    match={COLONS}|{COLONS}
"""
    files = reader(tmp_path, {"tlspolicy": table})
    lines = read_policy_lines(files)
    assert not files.problems
    assert {key: line.policy.level.value for key, line in lines.items()} == {
        "example.edu": "none",
        "example.mil": "may",
        "example.gov": "encrypt",
        "example.com": "verify",
        "example.net": "secure",
        ".example.net": "secure",
        "[mail.example.org]:587": "secure",
        "fingerprint.example": "pin",
    }
    assert str(lines["fingerprint.example"].policy.origin) == "control/tlspolicy:11"


def test_the_default(tmp_path: Path) -> None:
    missing = read_default(reader(tmp_path, {}))
    assert missing.policy.level is Level.MAY and missing.policy.why
    line = read_default(reader(tmp_path, {"tlsdefault": "verify match=nexthop\n# text\n"}))
    assert line.policy.level is Level.VERIFY and line.match == ("nexthop",)
    assert line.policy.why == "control/tlsdefault:1 (verify)"


@pytest.mark.parametrize("text", ["dane", "sts", "", "pin", "may match=x", "example.org may"])
def test_a_bad_default_is_a_problem(tmp_path: Path, text: str) -> None:
    files = reader(tmp_path, {"tlsdefault": text})
    read_default(files)
    assert [str(problem.origin) for problem in files.problems] == ["control/tlsdefault:1"]
