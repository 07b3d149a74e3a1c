"""What a file is said to be; and that lines which are printed for pasting do what they say."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from qmtls.cli.certnames import client_lines, names_in
from qmtls.cli.pem import key_pem
from qmtls.control.clientrules import client_rule
from qmtls.control.lists import Line
from qmtls.tls.clients import ClientRules, match_client
from qmtls.tls.policy import Origin
from tests.cli.conftest import Cli
from tests.tls.pki import NOW, YEAR, certificate, crl, facts, host, pem, san_entries

URI = x509.UniformResourceIdentifier
ODD_SUBJECT = 'Joe "x" <y>, #1+2; \\ é '


def test_show_json(cli: Cli, home: Path) -> None:
    result = cli("cert", "show", home / "clients/example.pem", "--json")
    (row,) = result.rows
    assert result.status == 0
    assert row["emails"] == ["example@mx.test"]
    assert row["ca"] is False
    assert row["tlsclients"] == [
        "example@mx.test",
        row["spki"],
        row["sha256"],
        'dn:"emailAddress=example@mx.test,CN=example@mx.test"',
    ]
    assert str(row["sha256"]).startswith("sha256:")
    assert 0 < int(str(row["days_left"])) <= 730


def test_show_gives_policy_lines_for_a_server(cli: Cli, home: Path) -> None:
    (row,) = cli("cert", "show", home / "control/servercert.pem", "--json").rows
    assert row["tlspolicy"] == [f"mx.test pin match={row['spki']}"]
    text = cli("cert", "show", home / "control/servercert.pem").out
    assert "1 certificate, 1 private key, which fits" in text
    assert "mx.test, localhost, 127.0.0.1" in text


def test_show_finds_what_is_wrong(cli: Cli, home: Path, tmp_path: Path) -> None:
    example = (home / "clients/example.pem").read_bytes()
    root = (home / "clients/ca.pem").read_bytes()
    stranger = key_pem(ec.generate_private_key(ec.SECP256R1()))
    for name, data, said in (
        ("order.pem", example.replace(b"-----BEGIN CERT", root + b"-----BEGIN CERT", 1), "must come first"),
        ("stranger.pem", stranger + root, "belongs to none"),
        ("two.pem", stranger + example, "several private keys"),
        ("open.pem", example, "chmod 600"),
        ("broken.pem", example.replace(b"END CERT", b"END OF"), "cannot be read"),
        ("empty.pem", b"", "no certificate"),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        path.chmod(0o644 if name == "open.pem" else 0o600)
        result = cli("cert", "show", path)
        assert result.status == 1, name
        assert said in result.out + result.err, name


def test_show_of_a_missing_file(cli: Cli, tmp_path: Path) -> None:
    result = cli("cert", "show", tmp_path / "none.pem")
    assert (result.status, "No such file" in result.err) == (1, True)


@pytest.mark.parametrize(
    ("cert", "kinds"),
    [
        (certificate("joe", emails=["joe@a.test"]), ["email", "spki", "sha256", "dn"]),
        (certificate("joe", emails=["joe@a.test", "x@b.test"]), ["spki", "sha256", "dn"]),
        (host("mx.test", "*.Mx.test"), ["spki", "sha256", "dn", "san:dns", "san:dns"]),
        (certificate("svc", sans=[URI("spiffe://a.test/b")]), ["spki", "sha256", "dn", "san:uri"]),
        (certificate(ODD_SUBJECT), ["spki", "sha256", "dn"]),
        (certificate("x\x07y"), ["spki", "sha256"]),  # such a subject cannot be written in a file
        (certificate("x", san_der=san_entries(0x81, b"joe@a.test\0@b.test")), ["spki", "sha256", "dn"]),
        (certificate("x", san_der=b"\x30\x03\x02\x01\x01"), ["spki", "sha256", "dn"]),
        (certificate("ca", ca=True), []),
    ],
)
def test_every_line_lets_its_certificate_in(cert: x509.Certificate, kinds: list[str]) -> None:
    rules = [client_rule(Line(line, Origin("control/tlsclients", 1))) for line in client_lines(cert)]
    assert [rule.kind for rule in rules] == kinds
    for rule in rules:
        match = match_client(ClientRules((rule,)), facts(cert), trusted=True, now=NOW.timestamp())
        assert match.rule == rule


def test_names_of_a_subject_count_where_there_are_no_others() -> None:
    assert names_in(certificate("joe", emails=["joe@a.test"])).emails == ["joe@a.test"]
    both = certificate("joe", emails=["joe@a.test"], sans=[x509.RFC822Name("ann@a.test")])
    assert names_in(both).emails == ["ann@a.test"]


def test_show_of_other_kinds(cli: Cli, home: Path, tmp_path: Path) -> None:
    assert cli("cert", "request", "a.test", "--email", "joe@a.test").status == 0
    (request,) = cli("cert", "show", "a.test.csr", "--json").rows
    (key,) = cli("cert", "show", "a.test.key", "--json").rows
    assert (request["kind"], request["hosts"], request["emails"]) == ("request", ["a.test"], ["joe@a.test"])
    assert (key["kind"], key["subject"]) == ("key", "EC on secp256r1")
    assert key["spki"] == request["spki"]
    assert "1 certificate request: for `qmtls cert issue`" in cli("cert", "show", "a.test.csr").out
    (tmp_path / "a.test.key").chmod(0o644)
    assert "chmod 600" in cli("cert", "show", "a.test.key").out
    assert "for clientca.pem" in cli("cert", "show", home / "control/clientca.pem").out
    assert "as servercert.pem" in cli("cert", "show", home / "control/servercert.pem").out


def test_show_of_lists(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "crl.pem").write_bytes(pem(crl("old", NOW - 3 * YEAR, 5), crl("new", NOW + 9 * YEAR, *range(1, 30))))
    result = cli("cert", "show", "crl.pem")
    assert result.status == 1
    assert "revoked     5  " in result.out
    assert "… and 9 more" in result.out
    assert "wrong: the revocation list of CN=old ended on" in result.out
    assert "2 revocation lists" in result.out


def test_show_without_pem(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.cer").write_bytes(host("mx.test").public_bytes(Encoding.DER))
    (tmp_path / "a.crl").write_bytes(crl("ca", NOW + 9 * YEAR).public_bytes(Encoding.DER))
    (tmp_path / "a.bin").write_bytes(b"0garbage")
    assert "mx.test" in cli("cert", "show", "a.cer").out
    assert "revocation list without number of CN=ca" in cli("cert", "show", "a.crl").out
    result = cli("cert", "show", "a.bin")
    assert (result.status, "no certificate" in result.err) == (1, True)


def test_a_terminal_is_not_steered(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_bytes(pem(certificate("x\x1b[2Jy", emails=["\x1b]0;z@a.test"])))
    assert "\x1b" not in cli("cert", "show", "a.pem").out


def test_several_leaves_and_cas_side_by_side_are_no_broken_chain(cli: Cli, tmp_path: Path) -> None:
    until = datetime.now(UTC) + YEAR
    leaves = [certificate(name, until=until) for name in ("old", "new")]
    cas = [certificate(name, until=until, ca=True) for name in ("a", "b")]
    for name, certificates in (("pins", leaves), ("cas", cas)):
        (tmp_path / name).write_bytes(pem(*certificates))
        assert cli("cert", "show", name).status == 0
    (tmp_path / "broken").write_bytes(pem(leaves[0], *cas))
    assert "certificate 2 did not issue certificate 1" in cli("cert", "show", "broken").out


def test_the_subject_as_openssl_would_have_it() -> None:
    found = certificate("joe", emails=["joe@a.test"])
    assert found.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)
    assert client_lines(found)[-1] == 'dn:"emailAddress=joe@a.test,CN=joe"'
