"""Postfix's files as texts: main.cf with its $names, and lookup tables as they are given to postmap.

No program of Postfix's is needed, and no compiled table is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from qmtls.cli.home import why
from qmtls.cli.output import USAGE, CommandError
from qmtls.tls.policy import Origin

MAX_FILE = 64 << 20
MAX_DEPTH = 20  # of names in the values of names

_PARAMETER = re.compile(r"\s*([A-Za-z][A-Za-z0-9_]*)\s*=\s*(.*)\Z", re.DOTALL)
_NAME = re.compile(r"\$(?:\$|\{([A-Za-z0-9_]+)\}|\(([A-Za-z0-9_]+)\)|([A-Za-z0-9_]+))")
_INLINE = re.compile(r"\{\s*([^={}\s]+)\s*=\s*([^{}]*?)\s*\}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a table: key in lower case, value as it stands."""

    origin: Origin
    text: str
    key: str
    value: str


@dataclass(slots=True)
class Main:
    """main.cf: values with where they stand; `known` False: no file was given, and defaults are assumed."""

    path: Path | None = None
    values: dict[str, tuple[str, Origin]] = field(default_factory=dict)

    @property
    def known(self) -> bool:
        return self.path is not None

    def get(self, name: str, default: str = "") -> str:
        """The value with $names expanded."""
        return self._expand(self.values[name][0] if name in self.values else default, MAX_DEPTH)

    def origin(self, name: str) -> Origin:
        return self.values[name][1]

    def _expand(self, text: str, depth: int) -> str:
        def value(found: re.Match[str]) -> str:
            name = found[1] or found[2] or found[3]
            if not name:
                return "$"
            if name == "config_directory" and name not in self.values and self.path is not None:
                return str(self.path.parent)
            return self._expand(self.values[name][0] if name in self.values else "", depth - 1)

        return _NAME.sub(value, text) if depth and "$" in text else text


def read_text(path: Path) -> str:
    """CommandError (a matter of usage) if it cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as problem:
        raise CommandError(f"{path}: {why(problem)}", USAGE) from None
    if len(data) > MAX_FILE:
        raise CommandError(f"{path}: larger than {MAX_FILE >> 20} MiB; this is no table of policies", USAGE)
    if b"\0" in data:
        raise CommandError(f"{path}: is a compiled table; give the text that it was made from", USAGE)
    return data.decode("utf-8", "replace")  # what is no text is no name either, and is refused as one


def logical_lines(path: Path) -> Iterator[tuple[Origin, str]]:
    """Lines that say something; one that begins with a blank continues the one before it (postconf(5), postmap(1))."""
    started: Origin | None = None
    parts: list[str] = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0].isspace() and started is not None:
            parts.append(line.strip())
            continue
        if started is not None:
            yield started, " ".join(parts)
        started, parts = Origin(str(path), number), [line.strip()]
    if started is not None:
        yield started, " ".join(parts)


def read_main(path: Path) -> Main:
    """The last line for a name counts, as in Postfix."""
    main = Main(path)
    for origin, line in logical_lines(path):
        found = _PARAMETER.match(line)
        if found is not None:
            main.values[found[1]] = (found[2].strip(), origin)
    return main


def is_main(path: Path) -> bool:
    """By its name, or by lines that are all `name = value`."""
    if path.name == "main.cf":
        return True
    lines = [line for _, line in logical_lines(path)]
    return bool(lines) and all(re.match(r"[a-z][a-z0-9_]+\s*=", line) for line in lines)


def read_table(path: Path) -> list[Entry]:
    found = []
    for origin, line in logical_lines(path):
        key, _, value = line.replace("\t", " ").partition(" ")
        found.append(Entry(origin, line, key.lower(), value.strip()))
    return found


@dataclass(frozen=True, slots=True)
class Reference:
    """One table that main.cf names: its text file, or entries inside of it, or a `problem` why it cannot be read."""

    path: Path | None = None
    entries: tuple[Entry, ...] = ()
    problem: str = ""


_TEXTS = frozenset({"hash", "lmdb", "btree", "cdb", "dbm", "sdbm", "texthash"})


def references(main: Main, name: str) -> list[Reference]:
    """The tables of a parameter such as smtp_tls_policy_maps, in order."""
    value = main.get(name)
    found: list[Reference] = []
    while value := value.strip(" ,\t"):
        kind, colon, rest = value.partition(":")
        if kind == "proxy" and colon:
            value = rest
            continue
        if kind == "inline":
            body, value = _braces(rest)
            found.append(Reference(entries=tuple(_inline(body, main.origin(name)))))
            continue
        word, *more = re.split(r"[\s,]+", value, maxsplit=1)
        value = more[0] if more else ""
        found.append(_reference(main, word))
    return found


def _reference(main: Main, word: str) -> Reference:
    kind, colon, path = word.partition(":")
    if not colon:
        kind, path = "hash", word
    if kind in _TEXTS:
        place = Path(path)
        if not place.is_file() and main.path is not None and (main.path.parent / place.name).is_file():
            place = main.path.parent / place.name  # a copy of the directory, looked at elsewhere
        if place.is_file():
            return Reference(place)
        return Reference(problem=f"{path} does not exist here; name the text that it was made from")
    return Reference(problem=f"a {kind}: table has no fixed lines; write what it answers as a text, and import that")


def _braces(text: str) -> tuple[str, str]:
    depth = 0
    for place, sign in enumerate(text):
        depth += (sign == "{") - (sign == "}")
        if not depth and sign == "}":
            return text[: place + 1], text[place + 1 :]
    return text, ""


def _inline(body: str, origin: Origin) -> Iterator[Entry]:
    for key, value in _INLINE.findall(body.strip()[1:-1]):
        yield Entry(origin, f"{key} {value}", key.lower(), value)


def keyed(entries: list[Entry]) -> Mapping[str, Entry]:
    """By key; of several the first counts, as postmap keeps it."""
    found: dict[str, Entry] = {}
    for entry in entries:
        found.setdefault(entry.key, entry)
    return found
