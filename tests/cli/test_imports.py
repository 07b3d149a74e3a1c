"""`qmtls import`: each line with both decisions, nothing weaker in silence, nothing overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from qmtls.control.compile import compile_control
from qmtls.tls.policy import Level, find_policy
from tests.cli.conftest import Cli, Result
from tests.system.pki import Authority

SHA256 = ":".join(["AB"] * 32)
MAIN = """\
compatibility_level = 3.6
myhostname = mx.example.org
smtp_tls_security_level = may
smtp_tls_policy_maps = hash:/etc/postfix/tls_policy
transport_maps = proxy:hash:$config_directory/transport
relay_clientcerts = hash:${config_directory}/relay_clientcerts
smtp_tls_CAfile = $config_directory/ca.crt
"""


@pytest.fixture
def postfix(tmp_path: Path) -> Path:
    directory = tmp_path / "postfix"
    directory.mkdir()
    (directory / "main.cf").write_text(MAIN)
    (directory / "ca.crt").write_bytes(Authority().pem)
    for name in ("tls_policy", "transport", "relay_clientcerts"):
        (directory / name).write_text("")
    return directory


def rows(result: Result, kind: str = "line") -> list[dict[str, object]]:
    return [row for row in result.rows if row["kind"] == kind]


def fates(result: Result) -> dict[str, str]:
    return {str(row["text"]).split()[0]: str(row["fate"]) for row in rows(result)}


def test_a_table_that_maps_is_written_and_means_the_same(cli: Cli, postfix: Path, tmp_path: Path) -> None:
    (postfix / "tls_policy").write_text(
        "# what we demand\nexample.org secure\n    match=.example.org:example.org\n.example.org verify\n"
        f"plain.test none\npinned.test fingerprint match={SHA256}\n[gw.test]:submission encrypt protocols=>=TLSv1.3\n"
    )
    (postfix / "transport").write_text("routed.test smtp:[gw.test]:submission\n")
    (postfix / "relay_clientcerts").write_text(f"{SHA256} joe\n")
    control = tmp_path / "home/control"
    dry = cli("import", "postfix", postfix / "main.cf")
    assert dry.status == 0, dry.out
    assert not control.exists()
    assert "nothing written, --write does that" in dry.out
    result = cli("import", "postfix", postfix / "main.cf", "--write")
    assert result.status == 0, result.out
    settings = compile_control(control)
    assert settings.me == "mx.example.org"
    assert find_policy(settings.tls, "a.example.org", "mx.example.org").names == ("mx.example.org",)
    assert find_policy(settings.tls, "plain.test", "mx").level is Level.NONE
    routed = find_policy(settings.tls, "routed.test", "gw.test", route="[gw.test]:587")
    assert (routed.level, routed.min_version) == (Level.ENCRYPT, "TLSv1.3")
    assert (control / "smtproutes").read_text().endswith("routed.test:gw.test:587\n")
    assert f"sha256:{'ab' * 32} label=joe" in (control / "tlsclients").read_text()


def test_each_line_says_what_it_did_and_what_it_does(cli: Cli, postfix: Path) -> None:
    (postfix / "tls_policy").write_text("example.org secure\n")
    result = cli("import", "postfix", postfix / "main.cf")
    said = (
        f"{postfix}/tls_policy:1: example.org secure\n"
        "    before   TLS and a certificate for a name below example.org or example.org by an authority given\n"
        "    after    the same\n"
        f"    control/tlspolicy: example.org secure tafile={postfix}/ca.crt\n"
    )
    assert said in result.out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a.test fingerprint match=" + ":".join(["00"] * 16), "its fingerprints are MD5"),
        ("a.test fingerprint match=" + ":".join(["00"] * 20), "its fingerprints are SHA-1"),
        ("a.test may match=x", "match= is invalid at level may"),
        ("a.test strict", "strict is no level"),
        ("a.test secure tafile=relative.pem", "no absolute path"),
        ("a.test verify tafile=/no/such/file.pem", "does not exist"),
    ],
)
def test_what_cannot_be_carried_waits_instead_of_going_out_under_less(
    cli: Cli, postfix: Path, tmp_path: Path, line: str, said: str
) -> None:
    (postfix / "tls_policy").write_text(f"{line}\n")
    result = cli("import", "postfix", postfix / "main.cf", "--write", "--json")
    assert result.status == 1
    (row,) = [row for row in rows(result) if row["file"] == f"{postfix}/tls_policy"]
    assert row["fate"] == "not carried"
    assert said in str(row["problem"])
    policy = find_policy(compile_control(tmp_path / "home/control").tls, "a.test", "mx.a.test")
    assert policy.level is Level.PIN
    assert policy.pins.certificates == {bytes(32)}


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("tls_policy", "host.test:26 encrypt", "without brackets"),
        ("transport", "a.test smtp:other.test", "asks for the MX hosts of other.test"),
        ("transport", "a.test local:", "control/locals"),
        ("transport", "a.test lmtp:unix:/x", "is not SMTP"),
        ("transport", "joe@a.test smtp:[x.test]", "only a domain, .parent or *"),
        ("relay_clientcerts", f"{':'.join(['00'] * 16)} joe", "is MD5, not SHA-256"),
    ],
)
def test_what_has_no_like_is_named(cli: Cli, postfix: Path, file: str, line: str, said: str) -> None:
    (postfix / file).write_text(f"{line}\n")
    result = cli("import", "postfix", postfix / "main.cf", "--json")
    assert result.status == 1
    assert any(said in str(row["problem"]) for row in rows(result)), result.out


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("smtp_tls_chain_files = /x.pem\n", "control/clientcert.pem"),
        ("smtpd_relay_restrictions = permit_tls_all_clientcerts, reject\n", "permit_tls_all_clientcerts"),
        ("smtp_tls_policy_maps = regexp:/x\n", "a regexp: table has no fixed lines"),
        ("smtp_tls_policy_maps = hash:/no/such\n", "/no/such does not exist here"),
    ],
)
def test_parameters_that_need_a_hand(cli: Cli, postfix: Path, lines: str, said: str) -> None:
    (postfix / "main.cf").write_text(MAIN + lines)
    result = cli("import", "postfix", postfix / "main.cf", "--json")
    assert result.status == 1
    assert any(said in str(row["problem"]) for row in rows(result)), result.out


def test_inline_tables_and_duplicates(cli: Cli, postfix: Path) -> None:
    main = MAIN.replace("hash:/etc/postfix/tls_policy", "inline:{ {a.test = secure match=x.test}, {a.test = none} }")
    (postfix / "main.cf").write_text(main)
    result = cli("import", "postfix", postfix / "main.cf", "--json")
    assert result.status == 0
    assert [row["fate"] for row in rows(result) if "a.test" in str(row["text"])] == ["no effect", "same"]


def test_the_line_of_a_domain_that_has_a_route_was_never_looked_up(cli: Cli, postfix: Path, tmp_path: Path) -> None:
    (postfix / "tls_policy").write_text("a.test none\n[gw.test] secure\n")
    (postfix / "transport").write_text("a.test smtp:[gw.test]\n")
    result = cli("import", "postfix", postfix / "main.cf", "--write", "--json")
    assert result.status == 0, result.out
    settings = compile_control(tmp_path / "home/control")
    assert find_policy(settings.tls, "a.test", "gw.test", route="[gw.test]:25").level is Level.SECURE


def test_peers_are_compared_in_a_table(cli: Cli, postfix: Path, tmp_path: Path) -> None:
    (postfix / "tls_policy").write_text(f"a.test verify\nb.test fingerprint match={'00' * 16}\n")
    peers = tmp_path / "peers"
    peers.write_text("a.test mx.a.test # the first\nb.test\nc.test\n")
    result = cli("import", "postfix", postfix / "main.cf", "--peers", peers)
    assert result.status == 1
    assert "equal      a.test at mx.a.test: TLS and a certificate for mx.a.test by" in result.out
    assert "equal      c.test: TLS if the host offers it" in result.out
    assert "DIFFERENT  b.test: before TLS and the pinned certificate or key (one); after mail waits" in result.out
    peers.write_text("a.test b c\n")
    assert cli("import", "postfix", postfix / "main.cf", "--peers", peers).status == 2


def test_what_is_there_stays_and_is_kept(cli: Cli, home: Path, postfix: Path) -> None:
    control = home / "control"
    (control / "tlspolicy").write_text("a.test none\nmine.test encrypt")
    (postfix / "tls_policy").write_text("a.test encrypt\nb.test encrypt\nmine.test encrypt\n")
    result = cli("import", "postfix", postfix / "tls_policy", "--write")
    assert result.status == 1
    assert "control/tlspolicy:1 says already: a.test none; remove one of the two" in result.out
    text = (control / "tlspolicy").read_text()
    assert text.startswith("a.test none\nmine.test encrypt\n# imported from ")
    assert text.endswith("b.test encrypt\n")
    (backup,) = control.glob("tlspolicy.*~")
    assert backup.read_text() == "a.test none\nmine.test encrypt"
    again = cli("import", "postfix", postfix / "tls_policy", "--write")
    assert again.status == 1
    assert (control / "tlspolicy").read_text() == text
    assert len(list(control.glob("*~"))) == 1


def test_nothing_is_written_that_does_not_compile(cli: Cli, home: Path, postfix: Path) -> None:
    (home / "control/listen").write_text("nonsense\n")
    (postfix / "tls_policy").write_text("b.test encrypt\n")
    result = cli("import", "postfix", postfix / "tls_policy", "--write")
    assert result.status == 1
    assert "nothing written" in result.out
    assert "control/listen:1" in result.out
    assert not (home / "control/tlspolicy").exists()


def test_wrong_usage(cli: Cli, tmp_path: Path) -> None:
    assert cli("import", "postfix").status == 2
    assert cli("import", "exim", "x").status == 2
    assert cli("import", "postfix", tmp_path / "none").status == 2
    (tmp_path / "x.db").write_bytes(b"\0\1\2")
    assert "compiled table" in cli("import", "postfix", tmp_path / "x.db").err
    (tmp_path / "prose").write_text("this is a letter\n")
    assert cli("import", "postfix", tmp_path / "prose").status == 2


# ------------------------------------------------------------ s/qmail


DESTINATIONS = """\
-:
-adh.test:
plain.test:
ca.test:{ca}
=exact.test:{ca}||4
~wild.test:{ca}|3|!3DES|
%old.test:=00112233445566778899aabbccddeeff00112233
%pinned.test:={digits}
!none.test:
port.test:;35
sender.test:{ca}||2|here.test
.below.test:{ca}
"""


def test_destinations_of_sqmail(cli: Cli, tmp_path: Path) -> None:
    directory = tmp_path / "sqmail"
    directory.mkdir()
    (tmp_path / "ca.crt").write_bytes(Authority().pem)
    text = DESTINATIONS.format(ca=tmp_path / "ca.crt", digits="ab" * 32)
    (directory / "tlsdestinations").write_text(text)
    (directory / "me").write_text("mx.test\n")
    (directory / "rcpthosts").write_text("a.test\n")
    (directory / "smtproutes").write_text("r.test:gw.test;587\nl.test:gw.test|joe|secret\n")
    (directory / "domaincerts").write_text("a.test:/x.pem|/k.pem|password\n")
    result = cli("import", "sqmail", directory, "--write", "--json")
    assert result.status == 1
    assert "secret" not in result.out and "|password" not in result.out
    written = {
        line.partition(" ")[0]: line
        for row in rows(result)
        for line in [str(x).removeprefix("tlspolicy: ") for x in row["written"]]  # type: ignore[attr-defined]
    }
    tafile = f"tafile={tmp_path}/ca.crt"
    assert written["tlsdefault:"] == "tlsdefault: may"
    assert written["adh.test"] == "adh.test encrypt"
    assert written["plain.test"] == "plain.test encrypt"
    assert written["exact.test"] == f"exact.test verify {tafile}"
    assert written["wild.test"] == f"wild.test verify {tafile} exclude=3DES"
    assert written["pinned.test"] == f"pinned.test pin match=sha256:{'ab' * 32}"
    assert written["none.test"] == "none.test none"
    assert written[".below.test"] == f".below.test verify {tafile}"
    found = fates(result)
    assert found[f"ca.test:{tmp_path}/ca.crt"] == "changed"  # a name is asked for, too
    for held in ("old.test", "port.test", "sender.test"):
        assert f"match=sha256:{'0' * 64}" in written[held]
    settings = compile_control(tmp_path / "home/control")
    assert settings.me == "mx.test"
    assert settings.routing.routes["r.test"].port == 587


def test_without_destinations_sqmail_knows_no_tls(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "sqmail").mkdir()
    (tmp_path / "sqmail/me").write_text("mx.test\n")
    (tmp_path / "sqmail/rcpthosts").write_text("a.test\n")
    result = cli("import", "sqmail", tmp_path / "sqmail", "--write")
    assert result.status == 0, result.out
    assert (tmp_path / "home/control/tlsdefault").read_text() == "none\n"


# ------------------------------------------------------------ qmail


def qmail(tmp_path: Path) -> Path:
    control = tmp_path / "qmail"
    (control / "tlshosts").mkdir(parents=True)
    (control / "me").write_text("mx.test\n")
    (control / "rcpthosts").write_text("a.test\n")
    (control / "defaultdomain").write_text("test\n")
    (control / "tlshosts/mx.peer.test.pem").write_bytes(Authority().pem)
    return control


def test_a_directory_of_qmail_is_copied_as_it_is(cli: Cli, tmp_path: Path) -> None:
    result = cli("import", "qmail", qmail(tmp_path), "--write")
    assert result.status == 0, result.out
    control = tmp_path / "home/control"
    assert (control / "tlshosts/mx.peer.test.pem").read_bytes() == (
        tmp_path / "qmail/tlshosts/mx.peer.test.pem"
    ).read_bytes()
    assert (control / "rcpthosts").read_text() == "a.test\n"
    assert not (control / "defaultdomain").exists()
    assert cli("import", "qmail", tmp_path / "qmail", "--write").status == 0


def test_private_keys_stay_private(cli: Cli, tmp_path: Path) -> None:
    control = qmail(tmp_path)
    Authority().server("mx.test").write(control / "servercert.pem")
    assert cli("import", "qmail", control, "--write").status == 0
    assert (tmp_path / "home/control/servercert.pem").stat().st_mode & 0o777 == 0o600


def test_what_qmail_would_do_otherwise_is_said(cli: Cli, tmp_path: Path) -> None:
    control = qmail(tmp_path)
    (control / "rcpthosts").unlink()
    (control / "badhelo").write_text("x\n")
    (control / "tlshosts/mx.empty.test.pem").write_text("")
    result = cli("import", "qmail", control)
    assert result.status == 1
    assert "everything is relayed, for everybody" in result.out
    assert "badhelo" in result.out
    assert "this pin file cannot be used" in result.out


def test_a_default_that_cannot_be_carried_says_what_holds_instead(cli: Cli, postfix: Path) -> None:
    (postfix / "main.cf").write_text(MAIN.replace("= may", "= verify") + "smtp_tls_CApath = /etc/partners\n")
    result = cli("import", "postfix", postfix / "main.cf")
    assert result.status == 1
    assert "put them into one file" in result.out
    assert "the default, dane, holds, which asks for less" in result.out


def test_octets_that_are_no_text(cli: Cli, postfix: Path) -> None:
    (postfix / "tls_policy").write_bytes(b"a.test secure match=\xff\nb\xff.test encrypt\n")
    result = cli("import", "postfix", postfix / "main.cf", "--json")
    assert result.status == 1
    assert [row["fate"] for row in rows(result) if "tls_policy" in str(row["file"])] == ["not carried"] * 2
