"""Logs without a message: what a crash between the removal of the two left. They are dropped beside the service's work.

A start that looked for them would have to list everything before the first greeting, with all names in memory. They do
no harm meanwhile: ids are never used again. In doubt a log stays, for without it its message would go once
more to recipients that have it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from qmtls.spool.directories import Directories
from qmtls.spool.record import is_id

AT_ONCE = 2000  # names looked at in one step: some milliseconds


class Leftovers:
    """One pass through `log`, in steps. Another thread may record and remove meanwhile."""

    def __init__(self, bin: Directories) -> None:
        self._bin = bin
        self._names: Iterator[str] | None = (entry.name for entry in bin.files.entries(bin.log) if is_id(entry.name))
        self._suspects: set[str] = set()

    def step(self) -> bool:
        """False: all were looked at. If the disk does not say, the next start looks again."""
        if self._names is None and not self._suspects:
            return False
        try:
            self._drop()
            names = list(islice(self._names, AT_ONCE)) if self._names is not None else []
            self._suspects = {id for id in names if not self._bin.has(id)}
        except OSError:
            names = []
        if len(names) < AT_ONCE:
            self._names = None
        return self._names is not None or bool(self._suspects)

    def _drop(self) -> None:
        """Those that had no message at the last step either: a mail reader may just have been renaming it. OSError."""
        orphans = {id for id in self._suspects if not self._bin.has(id)}
        self._suspects = set()
        if orphans:
            orphans -= self._bin.marked(orphans)
        for id in orphans:
            if not self._bin.has(id):  # a command may have given it its name back before that listing
                self._bin.unlink(self._bin.log + id)
