"""Control lines into a control directory: nothing that is there is lost, and what comes out compiles.

Lines are added to a file, behind a comment that says where they come from; one for a key that has another line already
is not written. A file that changes is kept as NAME.DATE~ beside it, which is no control file. Before anything is
written the directory as it would be is compiled, from links to what is there and the new files.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from qmtls.cli.foreign.mapping import Written
from qmtls.cli.home import why
from qmtls.cli.output import CommandError
from qmtls.cli.pem import PRIVATE, alone_in, read, replace, write
from qmtls.control.compile import compile_control
from qmtls.control.settings import Settings

SINGLE = frozenset({"me", "tlsdefault"})  # the first line is all that counts
_PLACEHOLDER = b"localhost.localdomain\n"  # only to look at the rest


@dataclass(frozen=True, slots=True)
class Conflict:
    """A line that is not written because another one is there."""

    line: Written
    there: str  # the other one
    number: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What files would hold afterwards; `same` are lines that are there already."""

    files: Mapping[str, bytes]
    conflicts: tuple[Conflict, ...] = ()
    same: tuple[Written, ...] = ()


def plan(control: Path, lines: Sequence[Written], copies: Mapping[str, str], source: str) -> Plan:
    """`source` is named in the comment above new lines; `copies` are whole files, by their name in control."""
    files: dict[str, bytes] = {}
    conflicts: list[Conflict] = []
    same: list[Written] = []
    by_file: dict[str, list[Written]] = {}
    for line in lines:
        by_file.setdefault(line.file, []).append(line)
    for name, wanted in by_file.items():
        old = read(control / name) if (control / name).exists() else b""
        there = _keys(name, old)
        new = []
        for line in wanted:
            found = there.get(line.key)
            if found is None:
                new.append(line.text)
                there[line.key] = (line.text, 0)
            elif " ".join(found[0].split()) == line.text:
                same.append(line)
            else:
                conflicts.append(Conflict(line, found[0], found[1]))
        if new:
            files[name] = _joined(old, new, source, single=name in SINGLE)
    for name, path in copies.items():
        data = read(Path(path))
        if (control / name).exists() and read(control / name) != data:
            conflicts.append(Conflict(Written(name, path), "another file", 0))
        elif not (control / name).exists():
            files[name] = data
    return Plan(files, tuple(conflicts), tuple(same))


def _joined(old: bytes, new: Sequence[str], source: str, *, single: bool) -> bytes:
    text = "".join(f"{line}\n" for line in new).encode()
    if single:
        return text
    shown = "".join(c if c.isprintable() else "?" for c in source)
    gap = b"" if not old or old.endswith(b"\n") else b"\n"
    return old + gap + f"# imported from {shown}\n".encode() + text


def _keys(name: str, data: bytes) -> dict[str, tuple[str, int]]:
    """Lines that are there, by what may be there once, with their numbers."""
    found: dict[str, tuple[str, int]] = {}
    for number, raw in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        if name in SINGLE:
            return {name: (raw, 1)}
        line = raw.strip()
        if not line or line.startswith("#") or raw[0].isspace():
            continue
        if name == "smtproutes":
            end = line.find(":", max(line.find("]"), 0)) if line.startswith("[") else line.find(":")
            key = line[: end + 1]
        else:
            key = line.split(maxsplit=1)[0]
        found.setdefault(key.lower() if name != "tlsclients" else key, (line, number))
    return found


def would_be(control: Path, changes: Mapping[str, bytes], *, placeholder: bool = False) -> Settings:
    """The directory compiled as it will be. `placeholder`: a missing `me` does not matter. Raises ControlError."""
    with _overlay(control, changes, placeholder=placeholder) as directory:
        return compile_control(directory)


@contextmanager
def _overlay(control: Path, changes: Mapping[str, bytes], *, placeholder: bool) -> Iterator[Path]:
    directory = Path(mkdtemp(prefix="qmtls-import-"))
    try:
        for entry in sorted(control.iterdir()) if control.is_dir() else ():
            if not any(name.startswith(f"{entry.name}/") for name in changes):
                (directory / entry.name).symlink_to(entry.absolute())
                continue
            (directory / entry.name).mkdir()
            for inner in entry.iterdir():
                (directory / entry.name / inner.name).symlink_to(inner.absolute())
        for name, data in changes.items():
            path = directory / name
            path.parent.mkdir(exist_ok=True)
            path.unlink(missing_ok=True)
            write(path, data, PRIVATE)
        if placeholder and not (directory / "me").exists():
            write(directory / "me", _PLACEHOLDER)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def write_all(control: Path, changes: Mapping[str, bytes], date: str) -> Iterator[tuple[str, str]]:
    """Each file in one step. Yields (name, backup): backup "" for a new file. CommandError."""
    try:
        control.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise CommandError(f"{control}: {why(problem)}") from None
    with alone_in(control):
        for name, data in changes.items():
            path = control / name
            backup = ""
            if path.exists():
                backup = f"{name}.{date}~"
                write(control / backup, read(path), path.stat().st_mode & 0o777)
            else:
                try:
                    path.parent.mkdir(exist_ok=True)
                except OSError as problem:
                    raise CommandError(f"{path.parent}: {why(problem)}") from None
            if b"PRIVATE KEY-----" in data and not backup:
                write(path, data, PRIVATE)
            else:
                replace(path, data)
            yield name, backup
        _sync(control)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
