"""Local mailboxes: one Maildir for each user below one directory.

A message is delivered when its file and its directory entry are synced; before the rename into `new` nobody sees it.
Files have the local line ends (LF), as every mail reader expects of a Maildir. A name that is delivered twice
replaces itself: a delivery repeated after a crash makes no second copy until a reader has taken the first.

On failure MailboxError says whether time may mend it. Trouble with the disk is temporary, always.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from qmtls.smtp.address import Address

FOLDERS = ("tmp", "new", "cur")
MAX_USER = 64  # RFC 5321 section 4.5.3.1.1

_USER = re.compile(rf"[a-z0-9_][a-z0-9._+-]{{0,{MAX_USER - 1}}}", re.ASCII)


class MailboxError(Exception):
    """The message is not in the mailbox. `temporary` False: there is no such mailbox, and the disk says so clearly."""

    def __init__(self, why: str, temporary: bool = True) -> None:
        super().__init__(why)
        self.temporary = temporary


def is_user(name: str) -> bool:
    """Can this (lower-case) name be a mailbox? Never with a slash, a leading dot, or what a shell stumbles over."""
    return _USER.fullmatch(name) is not None


class Mailboxes:
    """The mailboxes below `root`. Blocks on the disk: a look-up briefly, a delivery for its syncs."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def user(self, address: Address) -> str | None:
        """The user whose mailbox `address` means, None if its local part can mean none. The domain is not looked at."""
        name = address.local_part.lower()
        return name if _USER.fullmatch(name) else None

    def exists(self, address: Address) -> bool:
        """MailboxError if the disk does not say: doubt is no reason to refuse a recipient for good."""
        user = self.user(address)
        return user is not None and _is_directory(self._root / user)

    def deliver(self, user: str, head: bytes, chunks: Iterable[bytes], unique: str) -> None:
        """Stores `head` (trace fields, CRLF) and then `chunks` (content, CRLF) as one message named `unique`.

        `unique` must be the same for the same message and recipient, and no other: the queue id with the index of
        the recipient. Errors of `chunks` pass through, with nothing delivered.
        """
        user = user.lower()
        if not is_user(user) or "/" in unique or unique.startswith("."):
            raise MailboxError(f"{user!r} is not the name of a mailbox", temporary=False)
        mailbox = self._root / user
        if not _is_directory(mailbox):
            # The directory of all mailboxes gone means a disk that is not there, not users who left.
            raise MailboxError(f"no mailbox {user} here", temporary=not _is_directory(self._root))
        try:
            _store(mailbox / "tmp" / unique, mailbox / "new" / unique, head, chunks)
            _sync_directory(mailbox / "new")
        except OSError as problem:
            raise MailboxError(f"mailbox {user}: {problem.strerror or problem}") from problem


def _store(path: Path, final: Path, head: bytes, chunks: Iterable[bytes]) -> None:
    """Writes one file, syncs it, and gives it its final name; nothing stays of it if that fails."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(head.replace(b"\r\n", b"\n"))
            for chunk in _local_lines(chunks):
                file.write(chunk)
            file.flush()
            os.fsync(descriptor)
        path.rename(final)
    except BaseException:
        _unlink(path)
        raise


def _is_directory(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
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
