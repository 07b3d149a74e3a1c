"""The directories of one bin: made, opened for syncing, and where a message's file is by now."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from qmtls.spool.api import NotInSpool
from qmtls.spool.content import unreadable
from qmtls.spool.files import Files, sync_directory, trouble
from qmtls.spool.record import is_id

MARK = ":2,"  # between the id and the flags of a mail reader


class Directories:
    """`tmp`, `new`, `cur`, `log` are paths that end in a slash; `new_fd`, `cur_fd`, `log_fd` serve to sync them."""

    __slots__ = ("cur", "cur_fd", "files", "log", "log_fd", "new", "new_fd", "path", "tmp")

    def __init__(self, path: Path, files: Files) -> None:
        """Makes what is missing of the bin (and of the queue directory above it) and makes it last. SpoolError."""
        self.path = path
        self.files = files
        self.tmp, self.new, self.cur, self.log = (f"{path}/{name}/" for name in ("tmp", "new", "cur", "log"))
        self.new_fd = self.cur_fd = self.log_fd = -1
        try:
            self._make()
            self.new_fd = files.open_directory(self.new)
            self.cur_fd = files.open_directory(self.cur)
            self.log_fd = files.open_directory(self.log)
        except OSError as error:
            self.close()
            raise trouble(f"open bin {path}", error) from error

    def _make(self) -> None:
        queue = self.path.parent
        for directory in (str(queue), str(self.path), self.tmp, self.new, self.cur, self.log):
            self._make_one(directory)
        # Synced even if they were there: whoever made them may have been killed before it did so.
        sync_directory(self.files, str(self.path))
        sync_directory(self.files, str(queue))
        try:
            sync_directory(self.files, str(queue.parent))
        except PermissionError:  # not ours to read: then whoever made the queue there saw to it
            pass

    def _make_one(self, path: str) -> None:
        if self.files.exists(path):
            return
        try:
            self.files.make_directory(path)
        except FileExistsError:  # another process was faster
            pass

    def close(self) -> None:
        """Gives the descriptors back."""
        descriptors = (self.new_fd, self.cur_fd, self.log_fd)
        self.new_fd = self.cur_fd = self.log_fd = -1
        for fd in descriptors:
            if fd >= 0:
                self.files.close(fd)

    def open_message(self, id: str) -> int:
        """The message's file, for reading. NotInSpool, Malformed, or SpoolError."""
        if is_id(id):
            for path in (self.new + id, self.cur + id):  # in this order: it moves from new to cur, never back
                try:
                    return self.files.open(path)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    raise unreadable(f"open {path}", error) from error
        raise NotInSpool(id)

    def open_tried(self, id: str) -> tuple[int, bool]:
        """The same, and True if it was tried before. Most of a long queue was, so it is sought there first."""
        if is_id(id):
            try:
                return self.files.open(self.cur + id), True
            except FileNotFoundError:
                pass
            except OSError as error:
                raise unreadable(f"open {self.cur}{id}", error) from error
        return self.open_message(id), False

    def has(self, id: str) -> bool:
        """True if there is a message of that id. OSError."""
        # Most that are asked for were tried before; one may move from new to cur between the first two looks.
        return is_id(id) and any(self.files.exists(part + id) for part in (self.cur, self.new, self.cur))

    def unlink_messages(self, ids: Iterable[str]) -> dict[str, OSError]:
        """Those that are still there, and why the disk did not let them go."""
        missing: set[str] = set()
        stuck: dict[str, OSError] = {}
        for id in ids:
            try:
                if not self._unlink_one(id):
                    missing.add(id)
            except OSError as error:
                stuck[id] = error
        for id in self._unmarked(missing, stuck):
            try:
                self._unlink_one(id)
            except OSError as error:
                stuck[id] = error
        return stuck

    def _unlink_one(self, id: str) -> bool:
        """False: it is not where it should be. OSError."""
        for path in (self.new + id, self.cur + id):
            try:
                self.files.unlink(path)
                return True
            except FileNotFoundError:
                continue
        return False

    def _unmarked(self, ids: set[str], stuck: dict[str, OSError]) -> set[str]:
        """`unmark`; if the disk does not say, all may be there."""
        try:
            return self.unmark(ids) if ids else set()
        except OSError as error:
            stuck.update(dict.fromkeys(ids, error))
            return set()

    def unmark(self, ids: Collection[str]) -> set[str]:
        """Those of `ids` that a mail reader had renamed to ID:2,FLAGS: they have their name in `cur` again. OSError.

        It lists `cur` once, so it is for messages that are not where they should be.
        """
        found = set()
        for entry in self.files.entries(self.cur):
            id, mark, _ = entry.name.partition(MARK)
            if mark and id in ids and id not in found and entry.is_file(follow_symlinks=False):
                try:
                    self.files.rename(entry.path, self.cur + id)
                    found.add(id)
                except FileNotFoundError:  # another process was faster
                    pass
        # Or it was before this listing, which then has neither name.
        return found | {id for id in ids if id not in found and is_id(id) and self.files.exists(self.cur + id)}

    def marked(self, ids: Collection[str]) -> set[str]:
        """Those of `ids` that a mail reader renamed; nothing is changed. OSError."""
        names = (entry.name.partition(MARK) for entry in self.files.entries(self.cur))
        return {id for id, mark, _ in names if mark and id in ids}

    def unlink(self, path: str) -> bool:
        """Gone afterwards, or never there: True. False: the disk did not let us."""
        try:
            self.files.unlink(path)
        except FileNotFoundError:
            pass
        except OSError:
            return False
        return True
