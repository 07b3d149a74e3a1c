"""A message being received into a maildir bin.

Octets are gathered in memory. A small message touches the disk in its commit only, with one write; a big one
moves to `tmp` in portions, under a head whose size is put in at the end.

`abort` may come at any moment (the client is gone) while another thread writes or commits. Whoever takes the one
token in `_token` may touch the file; taking it is a single operation of the interpreter, so nobody else does.
An abort that finds it taken leaves its wish in `_unwanted`: `flush` then clears up, a commit goes through.
"""

from __future__ import annotations

from qmtls.smtp.envelope import Envelope
from qmtls.spool.api import Malformed, SpoolError
from qmtls.spool.files import Files, trouble
from qmtls.spool.record import SIZE_OFFSET, UNFINISHED, encode_envelope, encode_size
from qmtls.spool.spares import SMALL, Spares

FLUSH_AT = 256 * 1024  # octets in memory per message being received
MANY_PARTS = 1000  # pieces kept apart: a client that sends two octets at a time costs fifty for each piece


def gather(parts: list[bytes], data: bytes) -> None:
    """Adds a piece to those that are there, without letting them become very many."""
    parts.append(data)
    if len(parts) > MANY_PARTS:
        parts[:] = [b"".join(parts)]


class MaildirIncoming:
    """Made by MaildirSpool.begin, finished by MaildirSpool.commit."""

    __slots__ = (
        "_created",
        "_envelope",
        "_fd",
        "_files",
        "_gathered",
        "_parts",
        "_spares",
        "_token",
        "_unwanted",
        "id",
        "path",
        "size",
        "small",
    )

    def __init__(self, files: Files, path: str, id: str, envelope: Envelope, spares: Spares) -> None:
        self.id = id
        self.size = 0
        self.path = path  # in tmp
        self.small = False  # its file may be a spare one day
        self._files = files
        self._spares = spares
        self._envelope = envelope
        self._parts: list[bytes] = []
        self._gathered = 0
        self._fd = -1
        self._created = False
        self._token = [True]
        self._unwanted = False

    def write(self, data: bytes) -> bool:
        gather(self._parts, data)
        self.size += len(data)
        self._gathered += len(data)
        return self._gathered >= FLUSH_AT

    def flush(self) -> None:
        if not self._take():
            raise SpoolError(f"{self.id} was given up")
        self._write_out(UNFINISHED)
        self._token.append(True)
        if self._unwanted and self._take():
            self.discard()

    def abort(self) -> None:
        self._unwanted = True
        if self._take():
            self.discard()

    # ------------------------------------------------ for MaildirSpool.commit, which holds the token from here on

    def finish(self) -> None:
        """All octets are with the system. SpoolError leaves nothing behind."""
        if not self._take():
            raise SpoolError(f"{self.id} was given up")
        self._write_out(self.size)

    @property
    def fd(self) -> int:
        """What must be synced."""
        return self._fd

    def close(self) -> None:
        """OSError."""
        fd, self._fd = self._fd, -1
        self._files.close(fd)

    def discard(self) -> None:
        """Closes and unlinks as far as that is possible: what stays in tmp goes at the next start."""
        self._parts = []
        fd, self._fd = self._fd, -1
        try:
            if fd >= 0:
                self._files.close(fd)
        except OSError:
            pass
        try:
            if self._created:
                self._files.unlink(self.path)
        except OSError:
            pass

    def _take(self) -> bool:
        try:
            self._token.pop()
        except IndexError:
            return False
        return True

    def _write_out(self, size: int) -> None:
        """Hands everything gathered to the system, under a head with this size. SpoolError leaves nothing behind."""
        files, parts = self._files, self._parts
        try:
            if not self._created:
                parts.insert(0, encode_envelope(self._envelope, size))
                if size != UNFINISHED and size + len(parts[0]) <= SMALL:
                    self.small = True
                    self._reuse(size + len(parts[0]))
                if not self._created:
                    self._fd = files.create(self.path)
                    self._created = True
            elif size != UNFINISHED:
                files.patch(self._fd, encode_size(size), SIZE_OFFSET)
            if parts:
                files.write(self._fd, parts)
            if size == UNFINISHED:
                files.start_writing(self._fd)
        except OSError as error:
            self.discard()
            raise trouble(f"write {self.path}", error) from error
        except Malformed as error:
            raise SpoolError(str(error)) from error
        self._parts = []
        self._gathered = 0

    def _reuse(self, length: int) -> None:
        """Opens a spare, if there is one that can be used. OSError."""
        spare = self._spares.take()
        if not spare:
            return
        try:
            self._fd, before = self._files.reuse(spare)
        except OSError:
            self._spares.drop(spare)
            return
        self.path = spare
        self._created = True
        if before > length:
            self._files.cut(self._fd, length)
