from __future__ import annotations

from base64 import b64encode

import pytest

from qmtls.control.clientrules import client_rule, read_identity
from qmtls.control.lists import BadValueError, Line
from qmtls.tls.clients import ClientRule
from qmtls.tls.dn import subject_key
from qmtls.tls.policy import Origin
from tests.tls.pki import certificate

HEX = "0f" * 32
SPKI = b64encode(bytes.fromhex(HEX)).decode()


def rule(text: str) -> ClientRule:
    return client_rule(Line(text, Origin("control/tlsclients", 1)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Alice+X@Example.org", ("email", "alice+x@example.org")),
        ("alice@MÜNCHEN.example", ("email", "alice@xn--mnchen-3ya.example")),
        (f"sha256:{HEX}", ("sha256", HEX)),
        ("SHA256:" + ":".join(["0F"] * 32), ("sha256", HEX)),
        (f"spki:{SPKI}", ("spki", HEX)),
        ("dn:CN=alice", ("dn", "2.5.4.3=alice")),
        ('dn:"CN=alice,O=Example Ltd"', ("dn", "2.5.4.10=Example Ltd,2.5.4.3=alice")),
        ('DN:"CN=Alice \\"Al\\" A"', ("dn", "2.5.4.3=Alice %22Al%22 A")),
        ("san:email:Alice@Example.org", ("san:email", "alice@example.org")),
        ("san:dns:Mail.Example.org", ("san:dns", "mail.example.org")),
        ("san:dns:a_b.", ("san:dns", "a_b")),
        ("san:dns:*.Example.org", ("san:dns", "*.example.org")),
        ("san:uri:spiffe://A.example/Gate", ("san:uri", "spiffe://A.example/Gate")),
        ("SAN:IP:192.0.2.1", ("san:ip", "192.0.2.1")),
        ("san:ip:2001:DB8:0::1", ("san:ip", "2001:db8::1")),
        ("san:ip:[2001:db8::1]", ("san:ip", "2001:db8::1")),
    ],
)
def test_kinds_and_values(text: str, expected: tuple[str, str]) -> None:
    assert read_identity(text) == expected


def test_a_subject_is_the_one_of_its_certificate() -> None:
    cert = certificate("Alice, of Example", emails=["a@a.example"])
    assert rule(r'dn:"emailAddress=a@a.example,CN=Alice\, of Example"').value == subject_key(cert.subject)


def test_a_rule_with_its_scope() -> None:
    made = rule('dn:"CN=the gate"  from=@a.example,<>\trate=10/m label=gate')
    assert (made.text, made.name, made.kind) == ('dn:"CN=the gate"', "gate", "dn")
    assert made.scope.senders is not None and made.scope.senders.words == {"@a.example", "<>"}
    assert made.scope.rate is not None and made.scope.rate.count == 10
    plain = rule("Alice@a.example")
    assert plain.name == "Alice@a.example" and plain.scope.permits_sender(None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("alice", "no e-mail address"),
        ("älice@example.org", "characters that no certificate's address has"),
        ("@example.org", "no e-mail address"),
        ("alice@example.org from=@b.example junk", "'junk' is no scope"),
        ("alice@example.org, bob@example.org", "is no scope"),
        (" alice@example.org", "begins with a blank"),
        ("a:b@example.org", "'a' is no kind of rule"),
        ("md5:abcd", "'md5' is no kind of rule"),
        ("email:alice@example.org", "'email' is no kind of rule"),
        ("user:alice", "'user' is no kind of rule"),
        ("san:alice@example.org", "is no kind of rule"),
        ("san:dns", "san:dns: has no value"),
        ("san:rid:1.2.3", "'san:rid' is no kind of rule"),
        ("sha256:abcd", "no SHA-256 digest"),
        ("sha256:", "sha256: has no value"),
        ("spki:abcd", "no base64"),
        ("dn:", "dn: has no value"),
        ("dn:alice", "is no TYPE=VALUE"),
        ('dn:""', "is no TYPE=VALUE"),
        ('dn:"CN=a', "a quote that is not closed"),
        ("dn:CN=alice\\", "ends in a backslash"),
        ("dn:X=alice", "is no type of attribute"),
        ("dn:CN=Alice of Example", "is no scope"),  # blanks want quotes
        ("san:email:alice", "no e-mail address"),
        ("san:dns:a b", "is no scope"),
        ("san:dns:-", "is no host name"),
        ("san:dns:a.*.example", "is no host name"),
        ("san:uri:alice", "is no URI"),
        ("san:ip:192.0.2", "is no IP address"),
        ("san:ip:fe80::1%eth0", "is no IP address"),
    ],
)
def test_a_rule_is_never_read_as_something_weaker(text: str, words: str) -> None:
    with pytest.raises(BadValueError) as caught:
        rule(text)
    assert words in caught.value.what and caught.value.mend
