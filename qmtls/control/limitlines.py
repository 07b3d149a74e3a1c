"""Lines of limits, as `limits` and `destinations` have them: `WHOM attr=value…`, and one line for everyone.

What a line does not name is as in the line for everyone, and what that does not name as it is built in. A word that is
not understood is a problem: never a limit less.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from qmtls.control.lists import BadValueError, ControlFiles, Line, quote
from qmtls.control.scopes import read_rate
from qmtls.control.values import number
from qmtls.tls.scope import Rate

NO_LIMIT = "none"
MOST = 1_000_000

T = TypeVar("T", bound=Any)  # a dataclass with an `origin`
K = TypeVar("K")
Parse = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class LimitFile(Generic[T, K]):
    """How one such file reads. `attributes`: the word in the file, the field that it is, how its value reads."""

    name: str
    everyone: str  # whom the line for everyone names
    built_in: T
    key: Callable[[str], K]  # whom a line is about; raises BadValueError
    attributes: Mapping[str, tuple[str, Parse]]

    def read(self, files: ControlFiles) -> tuple[T, dict[K, T]]:
        """What holds for everyone, and the lines. Each is there once."""
        lines = [(line, line.text.split(None, 1)[0]) for line in files.lines(self.name) or ()]
        default = self.built_in
        for line, whom in lines:
            if whom == self.everyone:
                with files.collecting(line.origin):
                    if default is not self.built_in:
                        raise _twice(whom, default)
                    default = self._limits(line, default)
        found: dict[K, T] = {}
        for line, whom in lines:
            if whom != self.everyone:
                with files.collecting(line.origin):
                    key = self.key(whom)
                    if key in found:
                        raise _twice(key, found[key])
                    found[key] = self._limits(line, default)
        return default, found

    def _limits(self, line: Line, base: T) -> T:
        words = line.text.split()[1:]
        if not words:
            raise BadValueError(
                "limits nothing", f"write {' '.join(self.attributes)} behind it, each with = and a value"
            )
        values: dict[str, object] = {}
        for word in words:
            name, equals, value = word.partition("=")
            if not equals or name not in self.attributes:
                mend = f"write {', '.join(self.attributes)} with = and a value"
                raise BadValueError(f"{quote(word)} is no limit", mend)
            field, parse = self.attributes[name]
            if field in values:
                raise BadValueError(f"{name}= is here twice", "keep one of them")
            values[field] = parse(value)
        return replace(base, origin=line.origin, **values)


def _twice(key: object, first: Any) -> BadValueError:
    return BadValueError(f"{key} is here for the second time", f"{first.origin} is the first")


def count(text: str) -> int:
    """A number, or 0 for `none`."""
    return 0 if text == NO_LIMIT else number(text, 1, MOST)


def rate(text: str) -> Rate | None:
    """A rate, or None for `none`."""
    return None if text == NO_LIMIT else read_rate(text)
