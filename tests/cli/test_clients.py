"""`qmtls clients`: what the ledger says beside the rules in force, and taking a rule away."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from qmtls.ledger.clients import ClientSeen, ShownClient, Sightings, write_sightings
from qmtls.ledger.schema import open_ledger
from tests.cli.conftest import Cli

DIGEST = "ab" * 32
COLONS = ":".join(["AB"] * 32)
SPKI = "spki:GvhCGvhCGvhCGvhCGvhCGvhCGvhCGvhCGvhCGvhCGvg="
JOE = ShownClient("joe@a.test", DIGEST, 4_000_000_000)
OLD = ShownClient("CN=old", "cd" * 32, 1_000_000_000)


def remember(home: Path, *seen: ClientSeen) -> None:
    sightings = Sightings(100)
    for one in seen:
        sightings.add(one)
    connection = open_ledger(home / "state/ledger.db")
    write_sightings(connection, sightings)
    connection.close()


def rules(home: Path, text: str) -> Path:
    path = home / "control/tlsclients"
    path.write_text(text)
    return path


def test_what_was_seen_and_what_never_was(cli: Cli, home: Path) -> None:
    rules(home, f"# ours\njoe@a.test rate=100/h label=joe\nsha256:{COLONS}\nann@a.test\nbad rule here=\n")
    remember(
        home,
        ClientSeen("Joe@A.test", JOE, "192.0.2.1", 1_700_000_000.0, 2048),
        ClientSeen("Joe@A.test", JOE, "192.0.2.2", 1_700_000_100.0, 1024),
        ClientSeen("gone@a.test", OLD, "2001:db8::1", 1_600_000_000.0, 10),
        ClientSeen("printer", ShownClient("printer"), "192.0.2.9", 1_500_000_000.0, 10),
    )
    (home / "control/users").write_text("# people\nprinter $argon2id$x\n")
    result = cli("clients", "--json")
    assert result.status == 0
    joe, gone, printer, by_digest, ann = result.rows
    assert joe == {
        "rule": "Joe@A.test",
        "in_force": True,
        "identity": "joe@a.test",
        "certificate": f"sha256:{DIGEST}",
        "not_after": 4_000_000_000,
        "first_seen": 1_700_000_000.0,
        "last_seen": 1_700_000_100.0,
        "addresses": ["192.0.2.2", "192.0.2.1"],
        "messages": 2,
        "octets": 3072,
    }
    assert (gone["rule"], gone["in_force"]) == ("gone@a.test", False)
    assert (printer["rule"], printer["in_force"], printer["certificate"]) == ("printer", True, None)
    assert [(row["rule"], row["last_seen"], row["messages"]) for row in (by_digest, ann)] == [
        (f"sha256:{COLONS}", None, 0),
        ("ann@a.test", None, 0),
    ]
    text = cli("clients").out
    assert "from 192.0.2.2, 192.0.2.1\n" in text
    assert "2 messages, 3.0K" in text
    assert "gone@a.test  (no such rule any more)" in text
    assert "certificate ended 2001-09-09" in text
    assert "ann@a.test  never seen" in text


def test_without_a_ledger_there_are_the_rules(cli: Cli, home: Path) -> None:
    (row,) = cli("clients", "--json").rows
    assert (row["rule"], row["last_seen"]) == ("example@mx.test", None)
    (home / "control/tlsclients").unlink()
    assert cli("clients").out == ""


def test_many_addresses_are_cut_in_the_text_only(cli: Cli, home: Path) -> None:
    remember(home, *(ClientSeen("joe@a.test", JOE, f"192.0.2.{n}", float(n), 1) for n in range(9)))
    assert "from 192.0.2.8, 192.0.2.7, 192.0.2.6 and 6 more" in cli("clients").out
    assert cli("clients", "--json").rows[0]["addresses"] == [f"192.0.2.{n}" for n in range(8, -1, -1)]


def test_a_broken_ledger_is_an_error(cli: Cli, home: Path) -> None:
    (home / "state/ledger.db").write_bytes(b"garbage" * 500)
    result = cli("clients")
    assert (result.status, "not a database" in result.err) == (1, True)


@pytest.mark.parametrize(
    ("rule", "gone"),
    [
        ("joe@a.test", [2, 5]),
        ("JOE@A.TEST", [2, 5]),
        ("work", [5]),
        (f"sha256:{DIGEST}", [3]),
        (f"SHA256:{COLONS}", [3]),
        (SPKI, [4]),
        ('dn:"CN=ann, O=Example Ltd"', [6]),
        ("dn:CN=ann,O=Example Ltd", [6]),
        ("oe@a.test", []),
        ("from=@a.test", []),
        ("# joe@a.test", []),
    ],
)
def test_revoked_rules_become_comments(cli: Cli, home: Path, rule: str, gone: list[int]) -> None:
    lines = [
        "# joe@a.test",
        "joe@a.test rate=10/h",
        f"sha256:{COLONS}",
        SPKI,
        "joe@a.test from=@a.test label=work  ",
        'dn:"CN=ann,O=Example Ltd"',
        "a line that is no rule",
    ]
    path = rules(home, "\n".join(lines) + "\n")
    path.chmod(0o640)
    result = cli("clients", "revoke", rule)
    assert result.status == (0 if gone else 1)
    after = path.read_text().splitlines()
    assert len(after) == len(lines)
    for number, (old, new) in enumerate(zip(lines, after, strict=True), 1):
        if number in gone:
            assert new.startswith("# revoked 2") and new.endswith(f": {old}")
            assert f"tlsclients:{number}: {old}: revoked" in result.out
        else:
            assert new == old
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert cli("clients", "revoke", rule).status == 1  # it is not there twice


def test_what_is_no_text_stays_as_it_is(cli: Cli, home: Path) -> None:
    path = home / "control/tlsclients"
    path.write_bytes(b"\xff\xfe odd\r\njoe@a.test\r\nann@a.test")
    assert cli("clients", "revoke", "joe@a.test").status == 0
    first, second, third = path.read_bytes().split(b"\n", 2)
    assert (first, third) == (b"\xff\xfe odd\r", b"ann@a.test\n")
    assert second.startswith(b"# revoked 2")


def test_a_rule_file_behind_a_link(cli: Cli, home: Path, tmp_path: Path) -> None:
    path = rules(home, "joe@a.test\n")
    path.rename(tmp_path / "shared")
    path.symlink_to(tmp_path / "shared")
    assert cli("clients", "revoke", "joe@a.test").status == 0
    assert path.is_symlink()
    assert "# revoked" in (tmp_path / "shared").read_text()


def test_no_rules_at_all(cli: Cli, home: Path) -> None:
    (home / "control/tlsclients").unlink()
    assert cli("clients", "revoke", "joe@a.test").status == 1
    assert not (home / "control/tlsclients").exists()
    assert cli("clients", "revoke").status == 2
    assert cli("clients", "revoke", "").status == 2
    assert cli("clients", "nonsense").status == 2
