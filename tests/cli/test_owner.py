"""Root's commands leave nothing behind that the service, which runs as the home's owner, cannot use."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmtls.cli.owner import as_owner_of
from tests.cli.conftest import Cli

NOBODY = pwd.getpwnam("nobody")
pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="root only")


@pytest.fixture
def theirs(cli: Cli) -> Iterator[Path]:
    """A home of nobody's, where nobody can reach it: pytest's own directories are root's only."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        home = Path(directory) / "home"
        assert cli("init", home, "--me", "mx.test").status == 0
        for path in (home, *home.rglob("*")):
            os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
        yield home


def test_everything_that_root_makes_is_the_owners(cli: Cli, theirs: Path) -> None:
    to = ("--from", "joe@a.test", "--to", "ann@b.test")
    assert cli("--home", theirs, "send", *to, stdin=b"hello\n").status == 0
    assert cli("--home", theirs, "sendmail", "-f", "joe@a.test", "ann@b.test", stdin=b"hello\n").status == 0
    assert cli("--home", theirs, "mailbox", "add", "joe").status == 0
    assert len(list(theirs.glob("queue/inject/new/*"))) == 2
    for path in theirs.rglob("*"):
        assert (path.stat().st_uid, path.stat().st_gid) == (NOBODY.pw_uid, NOBODY.pw_gid), path
    assert len(cli("--home", theirs, "queue", "list", "--json").rows) == 2
    assert cli("--home", theirs, "queue", "remove", "--to", "ann@b.test").status == 0
    assert cli("--home", theirs, "mailbox", "remove", "joe").status == 0
    assert os.geteuid() == 0
    assert os.getegid() == 0


def test_a_check_sees_what_the_owner_sees(cli: Cli, theirs: Path) -> None:
    assert cli("--home", theirs, "check").status == 0
    os.chown(theirs / "control/servercert.pem", 0, 0)
    result = cli("--home", theirs, "check")
    assert result.status == 1
    assert "control/servercert.pem: cannot be opened (Permission denied)" in result.out


def test_what_is_missing_belongs_to_the_owner_of_what_is_above(theirs: Path) -> None:
    with as_owner_of(theirs / "a/b/c"):
        assert (os.geteuid(), os.getegid()) == (NOBODY.pw_uid, NOBODY.pw_gid)
        with as_owner_of(Path("/")):  # nobody's rights are not given back on the way
            assert os.geteuid() == NOBODY.pw_uid
    assert os.geteuid() == 0


def test_an_error_gives_roots_rights_back(theirs: Path) -> None:
    with pytest.raises(ZeroDivisionError), as_owner_of(theirs):
        _ = 1 / 0
    assert (os.geteuid(), os.getegid()) == (0, 0)
