"""Reading the files of a control directory, each value with its file and line.

Formats are qmail's (control.c): of a single-value file the first line counts, trailing blanks go; in a list file empty
lines and lines that begin with "#" are passed over. Only "no such file" means that a file is missing: whatever else
keeps one from being read is a problem. Problems are collected, so that one run shows them all.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from qmtls.control.settings import ControlError, Problem
from qmtls.tls.policy import Origin

MAX_FILE = 64 << 20  # a million lines; a file beyond it is something else
SHOWN = 60  # characters of a bad value that a message quotes


class BadValueError(ValueError):
    """A value that cannot be used: what is wrong with it, and how to mend it."""

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(f"{what}; {mend}")
        self.what = what
        self.mend = mend


@dataclass(frozen=True, slots=True)
class Line:
    """One line that says something, trailing blanks removed."""

    text: str
    origin: Origin


@dataclass(frozen=True, slots=True)
class Content:
    """A whole file: its octets and the permission bits of what a link points to."""

    data: bytes
    mode: int
    path: Path
    origin: Origin


def quote(text: str) -> str:
    """A value as a message shows it: printable, cut, in quotes."""
    shown = text[:SHOWN] + ("…" if len(text) > SHOWN else "")
    return "'" + "".join(c if c.isprintable() else "?" for c in shown) + "'"


def read_regular(path: Path) -> tuple[bytes, int] | None:
    """Octets and mode of a regular file; None if there is no such file. Raises BadValueError for anything else.

    Opened without blocking: a FIFO in the place of a file must not stop the service.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        if path.is_symlink():
            raise BadValueError("is a link to a file that does not exist", "mend or remove the link") from None
        return None
    except (OSError, ValueError) as problem:
        raise BadValueError(f"cannot be opened ({_reason(problem)})", "let the service read it") from problem
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            what = "is a directory" if stat.S_ISDIR(found.st_mode) else "is not a regular file"
            raise BadValueError(what, "put a plain file in its place, or remove it")
        if found.st_size > MAX_FILE:
            raise BadValueError(f"is larger than {MAX_FILE >> 20} MiB", "put the right file in its place")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_FILE + 1), stat.S_IMODE(found.st_mode)
    except OSError as problem:
        raise BadValueError(f"cannot be read ({_reason(problem)})", "let the service read it") from problem
    finally:
        os.close(descriptor)


class ControlFiles:
    """The control directory while it is compiled: reads files, and collects what is wrong with them."""

    def __init__(self, control: Path) -> None:
        self.control = control
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.trust: dict[Path, tuple[x509.Certificate, ...]] = {}  # files that several lines name are read once
        self._watched: set[Path] = set()

    def watch(self, path: Path) -> None:
        """`path` counts, wherever it is: a change of it is a change of the directory."""
        self._watched.add(path)

    @property
    def outside(self) -> tuple[Path, ...]:
        """What is to be watched beside the directory itself."""
        return tuple(sorted(path for path in self._watched if path.parent != self.control))

    def origin(self, name: str, line: int = 0) -> Origin:
        """A place in the directory; line 0 is the file as a whole."""
        # A file name may hold anything, line ends included, and ends up in the log.
        return Origin("control/" + "".join(c if c.isprintable() else "?" for c in name), line)

    def problem(self, origin: Origin, what: str, mend: str) -> None:
        """The directory cannot be used. `what` goes on behind the place; `mend` says what to do."""
        self.problems.append(Problem(origin, what, mend))

    def warn(self, origin: Origin, what: str, mend: str) -> None:
        """It can be used, but hardly as it was meant."""
        self.warnings.append(Problem(origin, what, mend))

    @contextmanager
    def collecting(self, origin: Origin) -> Iterator[None]:
        """A BadValueError inside becomes a problem of `origin`; what follows in the block is left out."""
        try:
            yield
        except BadValueError as bad:
            self.problem(origin, bad.what, bad.mend)

    def finish(self) -> tuple[Problem, ...]:
        """The warnings; raises ControlError if there was a problem."""
        if self.problems:
            raise ControlError(tuple(self.problems), self.outside)
        return tuple(self.warnings)

    def read(self, name: str) -> Content | None:
        """None = no such file, or a problem that is now recorded."""
        path = self.control / name
        with self.collecting(self.origin(name)):
            found = read_regular(path)
            if found is not None:
                return Content(found[0], found[1], path, self.origin(name))
        return None

    def first_line(self, name: str) -> Line | None:
        """A single-value file: its first line, which must not be empty. None as for `read`."""
        content = self.read(name)
        if content is None:
            return None
        origin = self.origin(name, 1)
        with self.collecting(origin):
            text = _text(content.data.partition(b"\n")[0])
            if not text:
                raise BadValueError("the first line is empty", "write the value there, or remove the file")
            return Line(text, origin)
        return None

    def lines(self, name: str) -> list[Line] | None:
        """A list file: every line that says something. None as for `read`."""
        content = self.read(name)
        if content is None:
            return None
        found = []
        file = content.origin.file
        for number, raw in enumerate(content.data.split(b"\n"), 1):
            if not raw or raw[0] == 35:  # "#"
                continue
            origin = Origin(file, number)
            try:
                text = _text(raw)
            except BadValueError as bad:
                self.problem(origin, bad.what, bad.mend)
                continue
            if text:
                found.append(Line(text, origin))
        return found

    def entries(self, name: str) -> list[str] | None:
        """The names in the directory `name` of control ("" = control itself), sorted, without editors' backups.

        None as for `read`.
        """
        path = self.control / name
        try:
            names = sorted(entry.name for entry in path.iterdir())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as problem:
            mend = "make it a directory that the service can read"
            self.problem(self.origin(name or "."), f"cannot be listed ({_reason(problem)})", mend)
            return None
        return [entry for entry in names if not entry.endswith("~")]


def _text(raw: bytes) -> str:
    try:
        text = raw.decode("utf-8").rstrip(" \t\r")
    except UnicodeDecodeError:
        raise BadValueError("is not UTF-8 text", "write the line anew in ASCII or UTF-8") from None
    if not text.replace("\t", " ").isprintable():
        raise BadValueError("has a control character in it", "write the line anew as plain text")
    return text


def _reason(problem: Exception) -> str:
    return (problem.strerror if isinstance(problem, OSError) else None) or str(problem)
