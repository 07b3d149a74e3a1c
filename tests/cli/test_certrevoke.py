"""The revocation list of the local CA: made, extended, renewed; never at the cost of what else is in the file."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from qmtls.cli.authority import Authority, make_ca, make_request, new_key, sign
from qmtls.cli.crl import Revocation, next_list, own_list
from qmtls.cli.pem import bundle, certificates_in, crls_in, read_authority, write_authority
from qmtls.tls.crls import crl_number, signed_by
from tests.cli.conftest import Cli
from tests.tls.pki import NOW, YEAR, certificate, crl, key, pem

NAME = "joe@a.test"


def client(cli: Cli, tmp_path: Path, name: str = NAME) -> x509.Certificate:
    assert cli("cert", "request", "--email", name).status == 0
    assert cli("cert", "issue", f"{name}.csr").status == 0
    return certificates_in((tmp_path / f"{name}.pem").read_bytes())[0]


def lists(home: Path) -> list[x509.CertificateRevocationList]:
    return crls_in((home / "control/clientcrl.pem").read_bytes())


def test_made_extended_and_renewed(cli: Cli, home: Path, tmp_path: Path) -> None:
    joe, ann = client(cli, tmp_path), client(cli, tmp_path, "ann@a.test")
    result = cli("cert", "revoke", f"{NAME}.pem", "--reason", "key")
    assert (result.status, result.err) == (0, "")
    assert f"{joe.serial_number:x} ({NAME}.pem): revoked\n" in result.out
    (first,) = lists(home)
    (entry,) = first
    assert entry.serial_number == joe.serial_number
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason is x509.ReasonFlags.key_compromise
    path = home / "control/clientcrl.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    path.chmod(0o640)

    assert cli("cert", "revoke", f"0x{ann.serial_number:x}", "--days", "30").status == 0
    (second,) = lists(home)
    assert [one.serial_number for one in second] == [joe.serial_number, ann.serial_number]
    assert crl_number(second) == crl_number(first) + 1
    assert second.next_update_utc is not None
    assert timedelta(days=29) < second.next_update_utc - datetime.now(UTC) < timedelta(days=31)
    assert next(iter(second)).revocation_date_utc == entry.revocation_date_utc

    assert "to be renewed before" in cli("cert", "revoke").out
    (third,) = lists(home)
    assert (len(third), crl_number(third)) == (2, 3)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert {entry.name for entry in path.parent.iterdir() if entry.name.startswith(".")} == set()


def test_revoked_once_is_revoked(cli: Cli, home: Path, tmp_path: Path) -> None:
    joe = client(cli, tmp_path)
    for _ in range(2):
        result = cli("cert", "revoke", f"{NAME}.pem", f"{joe.serial_number:x}")
        assert result.status == 0
    assert result.out.count("was revoked before") == 1
    assert [len(one) for one in lists(home)] == [1]


def test_the_check_is_content_and_the_list_is_the_ca_s(cli: Cli, home: Path, tmp_path: Path) -> None:
    client(cli, tmp_path)
    cli("cert", "revoke", f"{NAME}.pem")
    assert cli("check").status == 0
    (found,) = lists(home)
    assert signed_by(found, read_authority(home / "state/ca").certificate)
    show = cli("cert", "show", home / "control/clientcrl.pem")
    assert show.status == 0
    assert "1 revocation list: for clientcrl.pem" in show.out
    (row,) = cli("cert", "show", home / "control/clientcrl.pem", "--json").rows
    assert (row["kind"], row["number"], row["days_left"]) == ("crl", 1, 364)


def test_lists_of_others_stay(cli: Cli, home: Path, tmp_path: Path) -> None:
    """Those of a CA with the same name and another key, too."""
    client(cli, tmp_path)
    ours = read_authority(home / "state/ca")
    other = make_ca("other")
    twin = make_ca("twin")
    object.__setattr__(twin, "chain", (ours.certificate,))  # its name, another key
    foreign = [next_list(one, None, [Revocation(5)], datetime.now(UTC)) for one in (other, twin)]
    control = home / "control"
    (control / "clientca.pem").write_bytes(pem(ours.certificate, other.certificate))
    (control / "clientcrl.pem").write_bytes(b"notes\n" + pem(*foreign))
    assert cli("cert", "revoke", f"{NAME}.pem").status == 0
    new, *rest = lists(home)
    assert rest == foreign
    assert crl_number(new) == 1
    assert cli("cert", "revoke").status == 0
    assert lists(home)[1:] == foreign


def test_cas_that_then_need_a_list_are_named(cli: Cli, home: Path, tmp_path: Path) -> None:
    client(cli, tmp_path)
    with (home / "control/clientca.pem").open("ab") as file:
        file.write(pem(make_ca("other").certificate))
    result = cli("cert", "revoke", f"{NAME}.pem")
    assert result.status == 0
    assert result.err == "warning: CN=other has no revocation list there: its clients get nothing until it has one\n"


def test_what_is_not_revoked(cli: Cli, home: Path, tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_bytes(pem(certificate("other")))
    for argument, said in (
        ("other.pem", "only its own CA can revoke it"),
        (str(home / "state/ca/ca.pem"), "certificate of a CA"),
        ("none.pem", "No such file"),
        ("joe", "no such file, and no serial number"),
        ("0", "no serial number"),
        ("f" * 41, "no serial number"),
        ("-1", ""),
    ):
        result = cli("cert", "revoke", argument)
        assert result.status in (1, 2), argument
        assert said in result.err
    assert not (home / "control/clientcrl.pem").exists()


def test_a_list_that_cannot_be_read_is_left_alone(cli: Cli, home: Path) -> None:
    path = home / "control/clientcrl.pem"
    good = pem(crl("ca", NOW + YEAR))
    for text, said in ((good[:-30], "cut short"), (good.replace(b"-----\nM", b"-----\nN"), "cannot be read")):
        path.write_bytes(text)
        result = cli("cert", "revoke")
        assert result.status == 1
        assert said in result.err
        assert path.read_bytes() == text


def test_of_no_use_without_the_ca_s_trust(cli: Cli, home: Path, tmp_path: Path) -> None:
    (home / "control/clientca.pem").write_bytes(pem(make_ca("other").certificate))
    assert "of no use there" in cli("cert", "revoke").err
    (home / "control/clientca.pem").unlink()
    assert "of no use there" in cli("cert", "revoke").err
    assert cli("cert", "revoke", "--crl", tmp_path / "list.pem").status == 0
    assert len(crls_in((tmp_path / "list.pem").read_bytes())) == 1


def test_a_ca_that_may_not_sign_lists(cli: Cli, home: Path, tmp_path: Path) -> None:
    usage = x509.KeyUsage(False, False, False, False, False, True, False, False, False)
    made = make_ca("old")
    builder = (
        x509.CertificateBuilder()
        .subject_name(made.certificate.subject)
        .issuer_name(made.certificate.subject)
        .public_key(made.certificate.public_key())
        .serial_number(1)
        .not_valid_before(NOW - YEAR)
        .not_valid_after(NOW + 3 * YEAR)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
    )
    authority = Authority(made.key, (builder.sign(made.key, made.certificate.signature_hash_algorithm),))  # type: ignore[arg-type]
    (tmp_path / "ca").mkdir()
    write_authority(authority, tmp_path / "ca")
    result = cli("cert", "revoke", "--ca", "ca", "--crl", "list.pem")
    assert (result.status, "does not permit it" in result.err) == (1, True)


def test_a_link_stays_a_link(cli: Cli, home: Path, tmp_path: Path) -> None:
    cli("cert", "revoke")
    path = home / "control/clientcrl.pem"
    path.rename(tmp_path / "list.pem")
    path.symlink_to(tmp_path / "list.pem")
    assert cli("cert", "revoke").status == 0
    assert path.is_symlink()
    assert crl_number(lists(home)[0]) == 2


def test_the_newest_own_list_is_gone_on_from() -> None:
    authority = make_ca("ca")
    now = datetime.now(UTC)
    first = next_list(authority, None, [Revocation(1)], now)
    second = next_list(authority, first, [Revocation(2, "left")], now)
    assert own_list(authority, [second, first]) is second
    assert own_list(make_ca("ca"), [first, second]) is None
    assert own_list(authority, [crl("ca", NOW + YEAR)]) is None


def test_a_list_ends_no_later_than_its_ca() -> None:
    authority = make_ca("ca")
    found = next_list(authority, None, (), datetime.now(UTC), days=9999)
    assert found.next_update_utc == authority.certificate.not_valid_after_utc


def test_the_chain_of_an_intermediate_is_put_in_order(cli: Cli, home: Path, tmp_path: Path) -> None:
    """ca.pem in any order behind its first; the root, and what does not belong there, stay out of the bundle."""
    root, stranger = certificate("root", ca=True), certificate("stranger", ca=True)
    upper = certificate("upper", ca=True, issuer="root")
    lower = certificate("lower", ca=True, issuer="upper")
    directory = tmp_path / "ca"
    directory.mkdir()
    write_authority(Authority(key("lower"), (lower, root, stranger, upper)), directory)
    assert read_authority(directory).chain == (lower, upper, root)
    assert cli("cert", "request", "a.test").status == 0
    assert cli("cert", "issue", "a.test.csr", "--ca", "ca").status == 0
    leaf, *chain = certificates_in((tmp_path / "a.test.pem").read_bytes())
    assert chain == [lower, upper]
    leaf.verify_directly_issued_by(lower)


@pytest.mark.parametrize("kind", ["ec", "rsa:2048", "ed25519"])
def test_cas_with_any_key(tmp_path: Path, kind: str) -> None:
    made = make_ca("ca")
    ca_key = new_key(kind)
    builder = x509.CertificateBuilder().subject_name(made.certificate.subject).issuer_name(made.certificate.subject)
    builder = builder.public_key(ca_key.public_key()).serial_number(1).not_valid_before(NOW - YEAR)
    builder = builder.not_valid_after(NOW + 3 * YEAR)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    digest = None if kind == "ed25519" else made.certificate.signature_hash_algorithm
    authority = Authority(ca_key, (builder.sign(ca_key, digest),))  # type: ignore[arg-type]
    assert signed_by(next_list(authority, None, [Revocation(1)], NOW), authority.certificate)
    client_key = new_key(kind)
    leaf = sign(authority, make_request(client_key, emails=[NAME]), now=NOW)
    leaf.verify_directly_issued_by(authority.certificate)
    assert bundle(client_key, [leaf]).endswith(leaf.public_bytes(Encoding.PEM))
