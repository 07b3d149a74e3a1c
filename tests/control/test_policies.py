from __future__ import annotations

from base64 import b64encode
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmtls.control.lists import BadValueError, Line
from qmtls.control.policies import parse_line, read_default, read_policy_lines
from qmtls.control.tlsattributes import ALLOWED, CIPHER_GRADES, READERS, versions
from qmtls.tls.pin import certificate_digest, key_digest
from qmtls.tls.policy import Level, Origin, PolicyLine
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
        (">=TLSv1.2", ("", "")),
        (">=tlsv1", ("", "")),
        (">=TLSv1.3", ("TLSv1.3", "")),
        ("TLSv1.3", ("TLSv1.3", "")),
        ("TLSv1.2:TLSv1.3", ("", "")),
        ("!SSLv2:!SSLv3", ("", "")),
        ("!SSLv2:!SSLv3:!TLSv1:!TLSv1.1:!TLSv1.2", ("TLSv1.3", "")),
        (">=TLSv1.2:<=TLSv1.3", ("", "")),
        (">=TLSv1.2 <=TLSv1.2", ("", "TLSv1.2")),
        ("TLSv1.2", ("", "TLSv1.2")),
        ("!TLSv1.3", ("", "TLSv1.2")),
        ("<=TLSv1.2", ("", "TLSv1.2")),
    ],
)
def test_protocols_as_bounds(value: str, expected: tuple[str, str]) -> None:
    assert versions(value) == expected


@pytest.mark.parametrize("value", ["", "TLSv9", ">TLSv1.2", "TLSv1.3:", "TLSv1.1", "<=TLSv1.1", "!TLSv1.2:!TLSv1.3"])
def test_protocols_that_leave_nothing(value: str) -> None:
    with pytest.raises(BadValueError):
        versions(value)


def test_what_goes_into_the_hello(tmp_path: Path) -> None:
    policy = one(
        tmp_path,
        "a.example encrypt protocols=TLSv1.2 exclude=3DES:CAMELLIA groups=x25519:P-256:prime256v1"
        " servername=Other.Example tickets=no connection_reuse=no enable_rpk=no",
    ).policy
    assert (policy.max_version, policy.exclude) == ("TLSv1.2", ":!3DES:!CAMELLIA")
    assert (policy.groups, policy.server_name, policy.reuse) == ("x25519:secp256r1", "other.example", False)
    assert not policy.pq and one(tmp_path, "a.example secure pq=require").policy.pq


def test_braces_and_capitals_as_postfix_takes_them(tmp_path: Path) -> None:
    line = one(tmp_path, "a.example secure { exclude = 3DES, RC4 } Match=nexthop {reason=a b}, CIPHERS=High")
    assert line.policy.exclude == ":!3DES:!RC4"
    assert (line.match, line.reason, line.policy.ciphers) == (("nexthop",), "a b", CIPHER_GRADES["high"])


def test_each_attribute_is_read_and_belongs_to_a_level() -> None:
    assert set(ALLOWED) == set(Level)
    assert set().union(*ALLOWED.values()) == set(READERS)


@pytest.mark.parametrize("level", ["dane", "dane-only", "sts"])
def test_levels_by_evidence(tmp_path: Path, level: str) -> None:
    line = one(tmp_path, f".a.example {level} protocols=>=TLSv1.3")
    assert line.policy.level is Level(level) and not line.policy.discovers
    assert line.policy.why == f"control/tlspolicy:1 (.a.example {level})"


def test_a_file_of_authorities_is_read_once_and_watched_where_it_lies(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "ca.crt").write_bytes(pem(CA))
    lines = f"a.example secure tafile={elsewhere}/ca.crt\nb.example sts tafile={elsewhere}/ca.crt tafile=ca.crt\n"
    files = reader(tmp_path / "control", {"tlspolicy": lines, "ca.crt": pem(CA)})
    found = read_policy_lines(files)
    anchors = [found[key].policy.anchors for key in ("a.example", "b.example")]
    assert anchors == [(CA,), (CA, CA)] and anchors[0] and anchors[1] and anchors[0][0] is anchors[1][0]
    assert files.outside == (elsewhere / "ca.crt",)
    (elsewhere / "ca.crt").unlink()
    files = reader(tmp_path / "control", {"tlspolicy": lines})
    read_policy_lines(files)
    assert files.problems and files.outside == (elsewhere / "ca.crt",), "it may come back"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a.example", "names no level"),
        ("a.example maybe", "'maybe' is no level"),
        ("a.example may=yes", "'may' is no level"),
        ("a.example half-dane", "half-dane is what Postfix logs"),
        ("a.example secure pq=yes", "pq='yes' is not understood"),
        ("a.example may pq=require", "pq= means nothing at level may"),
        ("a.example dane pq=require", "pq= means nothing at level dane"),
        ("a.example secure pq=require protocols=TLSv1.2", "needs TLS 1.3"),
        ("a.example secure pq=require groups=X25519:P-256", "needs a hybrid group"),
        ("a.example secure groups=X25519:brainpool", "the group 'brainpool' is not known"),
        ("a.example secure groups=X25519:", "the group '' is not known"),
        ("a.example secure servername=a..b", "is no host name"),
        ("a.example secure exclude=a/b", "names no ciphers"),
        ("a.example secure tickets=yes", "tickets=yes is not supported"),
        ("a.example secure tickets=maybe", "is not understood"),
        ("a.example secure enable_rpk=yes", "enable_rpk=yes is not supported"),
        ("a.example secure connection_reuse=1", "is not understood"),
        ("a.example secure policy_ttl=86400", "policy_ttl is for Postfix's policy servers"),
        ("a.example secure mx_host_pattern=x", "mx_host_pattern is for Postfix's policy servers"),
        ("a.example secure policy_type=sts", "policy_type is for"),
        ("a.example secure unheard=of", "the attribute 'unheard' is not known"),
        ("[a.example]:25 sts", "this is a relay"),
        ("a.example sts match=nexthop", "match= means nothing at level sts"),
        ("a.example dane-only tafile=ca.crt", "tafile= means nothing at level dane-only"),
        ("a.example secure {match=a", "is not understood"),
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
        ("a.example secure protocols=TLSv1.1", "leaves no version"),
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
    assert missing.policy.level is Level.DANE and missing.policy.why and missing.policy.discovers
    line = read_default(reader(tmp_path, {"tlsdefault": "verify match=nexthop\n# text\n"}))
    assert line.policy.level is Level.VERIFY and line.match == ("nexthop",)
    assert line.policy.why == "control/tlsdefault:1 (verify)"


@pytest.mark.parametrize("level", ["none", "may", "encrypt", "dane", "verify", "secure", "dane-only", "sts", "pin"])
def test_dane_and_sts_go_before_a_default_that_does_not_ask_for_its_own(tmp_path: Path, level: str) -> None:
    pins = f" match=spki:{SPKI}" if level == "pin" else ""
    policy = read_default(reader(tmp_path, {"tlsdefault": level + pins})).policy
    assert policy.discovers is (level not in ("dane-only", "sts", "pin"))


@pytest.mark.parametrize("text", ["half-dane", "", "pin", "may match=x", "example.org may", "may until=2027-01-01"])
def test_a_bad_default_is_a_problem(tmp_path: Path, text: str) -> None:
    files = reader(tmp_path, {"tlsdefault": text})
    read_default(files)
    assert [str(problem.origin) for problem in files.problems] == ["control/tlsdefault:1"]


WORDS = st.sampled_from(
    [
        "may",
        "secure",
        "pin",
        "dane",
        "sts",
        "match=",
        "tafile=ca.crt",
        "{",
        "}",
        "=",
        '"',
        ",",
        "protocols=>=TLSv1.3",
        "groups=X25519:",
        "pq=require",
        "until=2027-01-01",
        "exclude=",
        "spki:",
        "sha256:",
        "..",
        "a.example",
        "ü",
    ]
)


@given(st.lists(WORDS | st.text(max_size=8), max_size=8), st.sampled_from([" ", ",", ""]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_written_is_understood_or_refused(tmp_path: Path, words: list[str], between: str) -> None:
    files = reader(tmp_path, {"ca.crt": pem(CA)})
    try:
        line = parse_line(files, "a.example", Line(between.join(words), Origin("control/tlspolicy", 1)))
    except BadValueError as bad:
        assert bad.what and bad.mend
    else:
        assert line.policy.level in Level
