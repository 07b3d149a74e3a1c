from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from qmtls.control.live import fingerprint
from tests.control.directory import write


def touch_later(path: Path) -> None:
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1))


def replace_with_the_same(path: Path) -> None:
    """Another file with the content, size and mtime of the old one, as `cp -p` and a rename make it."""
    found = path.stat()
    other = path.with_name("other~")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
    other.rename(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "mtime": lambda c: touch_later(c / "me"),
    "inode": lambda c: replace_with_the_same(c / "me"),
    "size": lambda c: (c / "me").write_text("other.example.org"),
    "removed": lambda c: (c / "me").unlink(),
    "added": lambda c: (c / "new").touch(),
    "pin added": lambda c: (c / "tlshosts/new.pem").touch(),
    "pin changed": lambda c: touch_later(c / "tlshosts/a.pem"),
    "flag removed": lambda c: (c / "notlshosts/b").unlink(),
    "certificate": lambda c: touch_later(c / "servercerts/c.pem"),
    "client certificate": lambda c: touch_later(c / "clientcerts/d.pem"),
    "directory for a pin": lambda c: (c / "e.pem").mkdir(),
    "link moved": lambda c: (c / "other~").rename(c / "link"),
    "link's file": lambda c: touch_later(c / "elsewhere/file"),
    "chmod": lambda c: (c / "me").chmod(0o600),
    "gone": lambda c: c.rename(c.with_name("gone")),
}


@pytest.fixture
def control(tmp_path: Path) -> Path:
    names = ("tlshosts/a.pem", "notlshosts/b", "servercerts/c.pem", "clientcerts/d.pem", "elsewhere/file")
    control = write(tmp_path / "control", dict.fromkeys(names, "x"))
    (control / "link").symlink_to("elsewhere/file")
    (control / "other~").symlink_to("me")
    (control / "dangling").symlink_to("nowhere")
    return control


@pytest.mark.parametrize("change", CHANGES)
def test_what_counts_changes_the_fingerprint(control: Path, change: str) -> None:
    before = fingerprint(control)
    assert fingerprint(control) == before
    CHANGES[change](control)
    after = fingerprint(control)
    assert after != before
    assert hash(after) == hash(fingerprint(control))


def test_backups_and_hidden_files_do_not_count(control: Path) -> None:
    before = fingerprint(control)
    for name in ("me~", ".me.swp", "tlshosts/a.pem~", "elsewhere/other"):
        (control / name).touch()
    assert fingerprint(control) == before


def test_no_content_is_read(control: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise AssertionError("opened")

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    fingerprint(control)


def test_files_elsewhere_count_where_they_are_named(control: Path, tmp_path: Path) -> None:
    other = tmp_path / "ca.crt"
    seen = [fingerprint(control, [other])]
    other.write_text("x")
    seen.append(fingerprint(control, [other]))
    touch_later(other)
    seen.append(fingerprint(control, [other]))
    assert len(set(seen)) == 3 and fingerprint(control, [other]) == seen[2]
    assert len({fingerprint(control), fingerprint(control, [tmp_path / "\0"]), *seen}) == 5
