"""Delivery into a Maildir: what is stored, when it is seen, and what failures mean."""

from __future__ import annotations

import mailbox
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmtls.net.mailboxes import FOLDERS, MailboxError, Mailboxes
from qmtls.recipients import is_user
from qmtls.smtp.address import Address

HEAD = b"Return-Path: <a@b.test>\r\nDelivered-To: joe@here.test\r\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in FOLDERS:
        (tmp_path / "joe" / folder).mkdir(parents=True)
    return tmp_path


def test_a_delivered_message(root: Path) -> None:
    Mailboxes(root).deliver("joe", HEAD, [b"Subject: x\r\n\r\nhel", b"lo\r", b"\nbye\r\n"], "id.0")
    text = b"Return-Path: <a@b.test>\nDelivered-To: joe@here.test\nSubject: x\n\nhello\nbye\n"
    assert (root / f"joe/new/id.0,S={len(text)}").read_bytes() == text
    assert not list((root / "joe/tmp").iterdir())
    (message,) = mailbox.Maildir(str(root / "joe"), create=False)
    assert message["Subject"] == "x"


@given(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b".", b"", b"bc\r"])))
def test_line_ends_do_not_depend_on_the_cut(pieces: list[bytes]) -> None:
    from qmtls.net.mailboxes import _local_lines

    assert b"".join(_local_lines(pieces)) == b"".join(pieces).replace(b"\r\n", b"\n")


def test_the_same_message_twice_is_one_file(root: Path) -> None:
    boxes = Mailboxes(root)
    (root / "joe/tmp/id.0").write_bytes(b"left by a crash, longer than the message")
    boxes.deliver("joe", b"", [b"x\r\n"], "id.0")
    boxes.deliver("JOE", b"", [b"x\r\n"], "id.0")
    assert [path.read_bytes() for path in (root / "joe/new").iterdir()] == [b"x\n"]


def test_a_name_in_letters_that_only_look_like_ours(root: Path) -> None:
    """U+212A, the Kelvin sign, whose lower() is k."""
    (root / "kim").mkdir()
    boxes = Mailboxes(root)
    assert boxes.exists(Address("Kim", "a.example"))
    assert not boxes.exists(Address("\u212aim", "a.example"))
    with pytest.raises(MailboxError, match="not the name"):
        boxes.deliver("\u212aim", b"", [], "id.0")


def test_syncs_come_before_and_after_the_rename(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    target = root / "joe/new/id.0,S=1"

    def fsync(descriptor: int) -> None:
        where = Path(f"/proc/self/fd/{descriptor}").readlink()
        seen.append(f"{where.relative_to(root)} {target.exists()}")

    monkeypatch.setattr(os, "fsync", fsync)
    Mailboxes(root).deliver("joe", b"", [b"x"], "id.0")
    assert seen == ["joe/tmp/id.0 False", "joe/new True"]


def test_trouble_is_temporary_and_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(MailboxError, match="No space left") as caught:
        Mailboxes(root).deliver("joe", b"", [b"x"], "id.0")
    assert caught.value.temporary
    assert not [path for path in root.rglob("*") if path.is_file()]


def test_content_that_cannot_be_read_leaves_nothing(root: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"half"
        raise RuntimeError("disk")

    with pytest.raises(RuntimeError):
        Mailboxes(root).deliver("joe", b"", chunks(), "id.0")
    assert not [path for path in root.rglob("*") if path.is_file()]


def test_which_failures_are_for_good(root: Path) -> None:
    boxes = Mailboxes(root)
    for user, unique in (("ann", "1"), ("../joe", "1"), ("joe", "../../1"), ("", "1"), (".x", "1")):
        with pytest.raises(MailboxError) as caught:
            boxes.deliver(user, b"", [], unique)
        assert not caught.value.temporary, user
    with pytest.raises(MailboxError) as caught:
        Mailboxes(root / "unmounted").deliver("joe", b"", [], "1")
    assert caught.value.temporary
    (root / "joe/new").rmdir()
    with pytest.raises(MailboxError) as caught:
        boxes.deliver("joe", b"", [], "1")
    assert caught.value.temporary


def test_exists(root: Path) -> None:
    boxes = Mailboxes(root)
    (root / "file").write_text("")
    (root / ".hidden").mkdir()
    for local_part, there in (
        *(("joe", True), ("JOE", True), ("ann", False), ("file", False), (".hidden", False)),
        *(("", False), ("..", False), ("../" + root.name, False), ('"j oe"', False), ("joe/new", False)),
    ):
        assert boxes.exists(Address(local_part, "here.test")) is there, local_part


def test_the_first_that_is_there(root: Path) -> None:
    boxes = Mailboxes(root)
    assert boxes.first(("shop-joe", "joe")) == "joe"
    assert boxes.first(("../joe", ".", "joe", "ann")) == "joe"
    assert boxes.first(("shop-joe", "shop")) is None
    (root / "shop").symlink_to("shop")
    with pytest.raises(MailboxError):
        boxes.first(("shop-joe", "shop"))


def test_exists_in_doubt_is_no_refusal(root: Path) -> None:
    (root / "loop").symlink_to("loop")
    with pytest.raises(MailboxError) as caught:
        Mailboxes(root).exists(Address("loop", "here.test"))
    assert caught.value.temporary
    boxes = Mailboxes(root)
    assert [boxes.may_exist(Address(user, "")) for user in ("loop", "joe", "ann")] == [True, True, False]


@given(st.text(max_size=70))
def test_no_user_leads_out_of_the_directory(name: str) -> None:
    if is_user(name):
        assert Path(f"/mail/{name}").resolve() == Path("/mail") / name
        assert name.isascii()
        assert name == name.lower()
