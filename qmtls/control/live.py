"""Has the control directory changed? Asked once a second at most, so only at names and inodes, never at content."""

from __future__ import annotations

import os
import stat
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path

# Directories whose files count; any other directory counts by itself only (a NAME.pem that is one defers mail).
DIRECTORIES = ("servercerts", "clientcerts", "tlshosts", "notlshosts", "dkim")


def fingerprint(control: Path, outside: Iterable[Path] = ()) -> Hashable:
    """Equal as long as nothing that counts has changed: names, mtime, ctime, size, inode of every file, and of those
    files `outside` that the directory names. Never raises.

    The ctime is there for what leaves the mtime alone: chmod (the mend for a key that others can read), `cp -p`, a
    file renamed over another. A link stands for what it points to. What cannot be looked at stands for its error.
    """
    return (*_directory(os.fspath(control), ""), look_at(outside))


def look_at(paths: Iterable[Path]) -> Hashable:
    """Equal as long as none of these has changed; of a directory, the names in it. Never raises."""
    return tuple(map(_outside, paths))


def _directory(path: str, prefix: str) -> Iterator[tuple[object, ...]]:
    try:
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except (OSError, ValueError) as problem:
        yield prefix, type(problem).__name__, getattr(problem, "errno", 0)
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name.endswith("~"):
            continue
        yield _file(entry, prefix)
        if not prefix and entry.name in DIRECTORIES:
            yield from _directory(entry.path, f"{entry.name}/")


def _outside(path: Path) -> tuple[object, ...]:
    name = os.fspath(path)
    try:
        found = path.stat()
    except (OSError, ValueError) as problem:
        return name, type(problem).__name__, getattr(problem, "errno", 0)
    return name, found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _file(entry: os.DirEntry[str], prefix: str) -> tuple[object, ...]:
    name = prefix + entry.name
    try:
        found = entry.stat()
    except OSError as problem:
        return name, type(problem).__name__, problem.errno
    if stat.S_ISDIR(found.st_mode):
        return name, "directory", found.st_ino  # what is in it counts by itself, or not at all
    return name, found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
