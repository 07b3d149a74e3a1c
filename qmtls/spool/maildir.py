"""One bin of the queue as a Maildir: tmp/ new/ cur/, and log/ beside them (docs/queue.md has the table).

Promises: `commit` reports a message as stored only after its file and then its name in `new` are synced; a
crash between any two operations leaves a state of the table; a recipient that `record` confirmed as done
is done after any crash. On failure of the disk: SpoolError, and as little as possible left behind. If the
last sync of a commit fails, its files are taken back; where that fails too, a message may arrive twice.

Next to nothing is remembered in memory, so other processes may hold, retry or remove messages in the same
bin. The locks that give a bin to one owner are `net.bins`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path

from qmtls.smtp.envelope import Envelope
from qmtls.spool import filing, listing
from qmtls.spool.api import (
    Attempt,
    Content,
    Filing,
    Incoming,
    NotInSpool,
    SpoolError,
    Step,
    Steps,
    Stored,
    Waiting,
    run_through,
)
from qmtls.spool.content import FileContent, StoredContent, read_head, read_log, unreadable
from qmtls.spool.directories import Directories
from qmtls.spool.files import Files, OsFiles, Sync, trouble
from qmtls.spool.glance import ALL, Choice, Glance, Problem, glances
from qmtls.spool.history import decode_history
from qmtls.spool.incoming import MaildirIncoming
from qmtls.spool.known import Known
from qmtls.spool.leftovers import Leftovers
from qmtls.spool.record import is_id
from qmtls.spool.spares import Spares


class MaildirSpool:
    """See api.Spool for the methods without a docstring."""

    def __init__(self, path: Path, files: Files | None = None, spares: int = 0) -> None:
        """Makes what is missing of the bin. SpoolError.

        Files of finished messages are used again, at most `spares` of them kept: for an owner that receives here.
        """
        self.name = path.name
        self.path = path
        self._files = files or OsFiles()
        self._bin = Directories(path, self._files)
        self._spares = Spares(self._files, spares)
        self._foreign: list[str] = []
        self._known = Known()
        self._leftovers: Leftovers | None = None

    def prepare(self, tmp_before: float | None = None) -> None:
        """For the owner at its start: clears up what a crash left; logs without a message go later. SpoolError.

        `tmp_before` (Unix seconds) spares younger files in tmp, in bins that others receive into.
        """
        listing.clear_tmp(self._bin, tmp_before)
        self._leftovers = Leftovers(self._bin)

    def close(self) -> None:
        """Gives the bin's descriptors back; the spool cannot be used afterwards."""
        self._spares.clear()
        self._bin.close()

    def tidy(self) -> None:
        """For the owner, once a second, off the reactor: lets go of what is not needed, a little at a time."""
        self._spares.tidy()
        if self._leftovers is not None and not self._leftovers.step():
            self._leftovers = None

    # ---------------------------------------------------------------- receiving

    def begin(self, id: str, envelope: Envelope) -> Incoming:
        if not is_id(id):
            raise ValueError(f"not a queue id: {id!r}")
        return MaildirIncoming(self._files, self._bin.tmp + id, id, envelope, self._spares)

    def commit(self, batch: Sequence[Incoming]) -> list[SpoolError | None]:
        return run_through(self.committing(batch))

    def committing(self, batch: Sequence[Incoming]) -> Steps:
        """Octets to the system; *sync the files*; rename them (the moment of acceptance); *sync the directory*."""
        results: list[SpoolError | None] = [None] * len(batch)
        written: list[tuple[int, MaildirIncoming]] = []
        for n, incoming in enumerate(batch):
            assert isinstance(incoming, MaildirIncoming)
            try:
                incoming.finish()
                written.append((n, incoming))
            except SpoolError as error:
                results[n] = error
        if written:
            sync = Sync(self._files, [incoming.fd for _, incoming in written], above=self._bin.new_fd)
            yield sync
            _discard_unsynced(written, sync.errors, results)
        synced = [(n, incoming) for n, incoming in written if results[n] is None]
        ids = {incoming.id for _, incoming in synced}
        self._known.unconfirmed |= ids
        try:
            renamed = self._rename(synced, results)
            if renamed:
                yield from self._sync_new(renamed, results)
        finally:
            self._known.unconfirmed -= ids
        return results

    def _rename(
        self, synced: Sequence[tuple[int, MaildirIncoming]], results: list[SpoolError | None]
    ) -> list[tuple[int, str]]:
        renamed = []
        for n, incoming in synced:
            try:
                incoming.close()
                self._files.rename(incoming.path, self._bin.new + incoming.id)
                self._known.received(incoming.id, incoming.small)
                renamed.append((n, incoming.id))
            except OSError as error:
                incoming.discard()
                results[n] = trouble(f"store {incoming.id}", error)
        return renamed

    def _sync_new(
        self, renamed: Sequence[tuple[int, str]], results: list[SpoolError | None]
    ) -> Generator[Step, None, None]:
        spares = self._spares.cooling()
        sync = Sync(self._files, [self._bin.new_fd], above=self._bin.new_fd)
        yield sync
        error = sync.errors[0]
        if error is None:
            self._spares.cooled(spares)
            return
        self._spares.not_cooled(spares)
        for n, id in renamed:
            self._bin.unlink(self._bin.new + id)
            self._known.small.discard(id)
            results[n] = trouble("sync new", error)

    # ---------------------------------------------------------------- reading

    def scan(self) -> Iterator[Waiting]:
        """A message that moves meanwhile may come twice; the later one is right."""
        self._foreign = []
        for waiting in listing.scan(self._bin, self._foreign):
            if self._known.listed(waiting.id):
                yield waiting

    def foreign(self) -> Iterable[str]:
        return tuple(self._foreign)

    def has(self, id: str) -> bool:
        try:
            return self._bin.has(id)
        except OSError:
            return True

    def look(self, id: str) -> Waiting | None:
        try:
            return listing.look(self._bin, id)
        except OSError:
            return Waiting(id, 0.0)

    def stored(self, id: str) -> Stored:
        """All but the content. NotInSpool, Malformed, or SpoolError."""
        for _, found in self.glances([id]):
            if isinstance(found, Exception):
                raise found
            return found.stored()
        raise NotInSpool(id)

    def glances(self, ids: Iterable[str], choice: Choice = ALL) -> Iterator[tuple[str, Glance | Problem]]:
        """Many messages as they lie there, without those that are gone or that `choice` rules out."""
        return glances(self._bin, ids, choice)

    def envelope(self, id: str) -> Envelope:
        fd = self._bin.open_message(id)
        try:
            return read_head(self._files, fd)[0].envelope
        finally:
            self._files.close(fd)

    def content(self, id: str) -> Content:
        fd = self._bin.open_message(id)
        try:
            head, read = read_head(self._files, fd)
        finally:
            self._files.close(fd)
        if len(read) == head.length + head.size:
            return StoredContent(read[head.length :])
        return FileContent(self._files, lambda: self._bin.open_message(id), head)

    def history(self, id: str) -> tuple[Attempt, ...]:
        if not is_id(id):
            return ()
        try:
            fd = self._files.open(self._bin.log + id)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise unreadable(f"open log/{id}", error) from error
        try:
            return decode_history(read_log(self._files, fd))
        finally:
            self._files.close(fd)

    # ---------------------------------------------------------------- filing

    def record(self, batch: Sequence[Filing]) -> list[SpoolError | None]:
        """A message that is gone needs no record: None, and nothing is written."""
        self._known.tried(entry.id for entry in batch)
        return filing.record(self._bin, batch)

    def remove(self, ids: Sequence[str]) -> None:
        """SpoolError names those whose files could not be unlinked; they are not listed again by this process."""
        known = self._known
        known.finished.update(id for id in ids if is_id(id))
        todo = []
        for id in tuple(known.finished):
            if self.remove_at_once(id):
                known.gone(id)
            else:
                todo.append(id)
        stuck = self._bin.unlink_messages(todo)
        for id in todo:
            # The log goes last: a message without its log would be sent again to recipients that are done.
            if id not in stuck and (id in known.unfiled or self._bin.unlink(self._bin.log + id)):
                known.gone(id)
        if stuck:
            because = ", ".join(sorted({error.strerror or str(error) for error in stuck.values()}))
            raise SpoolError(f"cannot unlink {' '.join(sorted(stuck)[:10])}: {because}")

    def take_away(self, ids: Iterable[str]) -> dict[str, OSError]:
        """For commands, in any thread: removes messages that this process neither received nor sends.

        Returns those that the disk did not let go, and why.
        """
        ids = [id for id in ids if is_id(id)]
        stuck = self._bin.unlink_messages(ids)
        for id in ids:
            if id not in stuck:
                self._bin.unlink(self._bin.log + id)  # if it stays, the next start of the owner drops it
        return stuck

    def sync(self) -> None:
        """What was removed stays removed, and times that were set stay as they are. SpoolError."""
        try:
            for fd in (self._bin.new_fd, self._bin.cur_fd):
                self._files.sync(fd)
        except OSError as error:
            raise trouble(f"sync bin {self.path}", error) from error

    def remove_at_once(self, id: str) -> bool:
        """Renames a small file that was received here and never tried: it is kept for the next message."""
        if id not in self._known.small:
            return False
        self._known.small.discard(id)
        try:
            if not self._spares.keep(self._bin.new + id, self._bin.tmp + id):
                return False
        except OSError:
            return False
        self._known.unfiled.discard(id)
        return True


def _discard_unsynced(
    written: Sequence[tuple[int, MaildirIncoming]],
    errors: Sequence[OSError | None],
    results: list[SpoolError | None],
) -> None:
    for (n, incoming), error in zip(written, errors, strict=True):
        if error is not None:
            incoming.discard()
            results[n] = trouble(f"store {incoming.id}", error)
