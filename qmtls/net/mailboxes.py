"""Local mailboxes: one Maildir for each user below one directory.

A message is delivered when its file and its directory entry are synced; before the rename into `new` nobody sees it.
Files have the local line ends (LF), as every mail reader expects of a Maildir, and their size in their names (`,S=`, as
Maildir++ has it), so that a reader that counts quotas opens none. A name that is delivered twice
replaces itself: a delivery repeated after a crash makes no second copy until a reader has taken the first.

On failure MailboxError says whether time may mend it. Trouble with the disk is temporary, always.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from qmtls.recipients import is_user
from qmtls.smtp.address import Address, folded

FOLDERS = ("tmp", "new", "cur")


class MailboxError(Exception):
    """The message is not in the mailbox. `temporary` False: there is no such mailbox, and the disk says so clearly."""

    def __init__(self, why: str, temporary: bool = True) -> None:
        super().__init__(why)
        self.temporary = temporary


class Mailboxes:
    """The mailboxes below `root`. Blocks on the disk: a look-up briefly, a delivery for its syncs."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def exists(self, address: Address) -> bool:
        """Is there the mailbox that the local part names? The domain is not looked at.

        MailboxError if the disk does not say: doubt is no reason to refuse a recipient for good.
        """
        return self._has(folded(address.local_part))

    def may_exist(self, address: Address) -> bool:
        """The same where nobody waits for an answer: True if the disk does not say."""
        try:
            return self.exists(address)
        except MailboxError:
            return True

    def first(self, names: Sequence[str]) -> str | None:
        """The first of the names that is a mailbox: the user's own before the catch-all. MailboxError as `exists`."""
        return next((name for name in names if self._has(name)), None)

    def users(self) -> frozenset[str]:
        """The names of all mailboxes. OSError."""
        return frozenset(path.name for path in self._root.iterdir() if is_user(path.name) and path.is_dir())

    def _has(self, user: str) -> bool:
        return is_user(user) and _is_directory(f"{self._root}/{user}")

    def deliver(self, user: str, head: bytes, chunks: Iterable[bytes], unique: str) -> None:
        """Stores `head` (trace fields, CRLF) and then `chunks` (content, CRLF) as one message named `unique`.

        `unique` must be the same for the same message and recipient, and no other: the queue id with the index of
        the recipient. Errors of `chunks` pass through, with nothing delivered.
        """
        user = folded(user)
        if not is_user(user) or "/" in unique or unique.startswith("."):
            raise MailboxError(f"{user!r} is not the name of a mailbox", temporary=False)
        mailbox = self._root / user
        if not _is_directory(mailbox):
            # The directory of all mailboxes gone means a disk that is not there, not users who left.
            raise MailboxError(f"no mailbox {user} here", temporary=not _is_directory(self._root))
        try:
            _store(mailbox / "tmp" / unique, mailbox / "new", head, chunks)
            _sync_directory(mailbox / "new")
        except OSError as problem:
            raise MailboxError(f"mailbox {user}: {problem.strerror or problem}") from problem


def _store(path: Path, place: Path, head: bytes, chunks: Iterable[bytes]) -> None:
    """Writes one file, syncs it, and moves it to `place` with its size behind its name; nothing stays if that fails."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(head.replace(b"\r\n", b"\n"))
            for chunk in _local_lines(chunks):
                file.write(chunk)
            size = file.tell()
            file.flush()
            os.fsync(descriptor)
        path.rename(place / f"{path.name},S={size}")
    except BaseException:
        _unlink(path)
        raise


def _is_directory(path: Path | str) -> bool:
    try:
        # For every local recipient: Path.stat() costs twice as much.
        return stat.S_ISDIR(os.stat(path).st_mode)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as problem:
        raise MailboxError(f"{path}: {problem.strerror or problem}") from problem


def _unlink(path: Path) -> None:
    try:
        path.unlink()
    except OSError:
        pass  # a file that stays in tmp is nobody's mail


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _local_lines(chunks: Iterable[bytes]) -> Iterable[bytes]:
    """CRLF to LF in a stream, also where a chunk ends between the two."""
    carried = b""
    for chunk in chunks:
        data = carried + chunk if carried else chunk
        if data.endswith(b"\r"):
            data, carried = data[:-1], b"\r"
        else:
            carried = b""
        yield data.replace(b"\r\n", b"\n")
    if carried:
        yield carried
