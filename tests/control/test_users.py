"""The file `users`."""

from __future__ import annotations

from pathlib import Path

import pytest

from qmtls.control.compile import compile_control
from qmtls.control.settings import ControlError
from qmtls.control.users import MOST_MEMORY, password_hash
from tests.control.directory import compiled, problems, write

HASH = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21l$" + "A" * 43
MEND = "write the line anew: qmtls user add USER"


def test_without_the_file(tmp_path: Path) -> None:
    assert compiled(tmp_path, {}).users == {}


def test_users_with_scopes(tmp_path: Path) -> None:
    users = compiled(
        tmp_path, {"users": f"# who\nJoe {HASH}\nann@a.example  {HASH} from=@a.example,<> rate=5/h label=ann"}
    ).users
    joe, ann = users["joe"], users["ann@a.example"]
    assert joe.hash == ann.hash == HASH
    assert (joe.rule.kind, joe.rule.value, joe.rule.name, str(joe.rule.origin)) == (
        *("user", "joe", "joe"),
        "control/users:2",
    )
    assert ann.rule.name == "ann"
    assert ann.rule.scope.rate is not None and ann.rule.scope.rate.count == 5
    assert ann.rule.scope.permits_sender(None)


def test_a_hash_is_not_shown(tmp_path: Path) -> None:
    users = compiled(tmp_path, {"users": f"joe {HASH}"}).users
    assert "argon2" not in repr(users)


@pytest.mark.parametrize("mode", [0o644, 0o641, 0o602, 0o777])
def test_others_must_not_read_it(tmp_path: Path, mode: int) -> None:
    write(tmp_path, {"users": f"joe {HASH}"})
    (tmp_path / "users").chmod(mode)
    with pytest.raises(ControlError, match=f"chmod {mode & 0o770:04o}") as problem:
        compile_control(tmp_path)
    assert "others than its owner and group can read" in str(problem.value)


def test_without_users_there_is_no_secret(tmp_path: Path) -> None:
    write(tmp_path, {"users": "# none yet\n"})
    (tmp_path / "users").chmod(0o644)
    assert compile_control(tmp_path).users == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("joe", f"joe has no hash of a password; {MEND}"),
        ("joe secret", f"the second word is no argon2 hash of a password; {MEND}"),
        ("joe {PLAIN}secret", "is no argon2 hash"),
        ("joe $2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe", "is no argon2 hash"),
        (f"-joe {HASH}", "'-joe' cannot be a user"),
        (f"jo\xe9 {HASH}", "cannot be a user"),
        (f"joe {HASH} rates=1/h", "'rates=1/h' is no scope"),
        (f"joe {HASH}\nJOE {HASH}", "joe is here for the second time; control/users:1 is the first"),
    ],
)
def test_bad_lines(tmp_path: Path, text: str, said: str) -> None:
    (problem,) = problems(tmp_path, {"users": text})
    assert said in problem
    assert "secret" not in problem and "$" not in problem


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("m=19456", f"m={MOST_MEMORY + 1}"),
        ("m=19456", "m=7"),
        ("t=2", "t=0"),
        ("t=2", "t=21"),
        ("p=1", "p=17"),
        ("p=1", "p=0"),
        ("v=19", "v=16"),
        ("argon2id", "argon2x"),
        ("c29tZXNhbHRzb21l", "c29t"),
        ("A" * 43, "A" * 21),
        ("A" * 43, "A" * 42 + "!"),
        ("A" * 43, "A" * 41),
        ("A" * 43, "A" * 43 + "\n"),
    ],
)
def test_hashes_that_are_none_or_ask_for_too_much(old: str, new: str) -> None:
    assert password_hash(HASH) == HASH
    with pytest.raises(ValueError, match=r"argon2 hash|asks for"):
        password_hash(HASH.replace(old, new))


@pytest.mark.parametrize("kind", ["argon2i", "argon2d"])
def test_its_older_kinds(kind: str) -> None:
    assert password_hash(HASH.replace("argon2id", kind))
