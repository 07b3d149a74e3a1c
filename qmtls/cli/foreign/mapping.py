"""What became of each line of another server's configuration, and the control lines that are to be written.

Every line that says something gets a row: what the other server did by it, what we would do, the lines written, or why
it cannot be carried and what to do about it. Nothing is left out in silence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from qmtls.cli.foreign.demand import NOTHING
from qmtls.tls.policy import Origin

# Of a default that could not be carried: there is no line that could stop all mail in its place.
NO_DEFAULT = "until control/tlsdefault is written by hand the default, dane, holds, which asks for less"


class Fate(Enum):
    """Of one line."""

    SAME = "same"  # carried, and the decision is the same
    CHANGED = "changed"  # carried, and decides differently: never weaker without being said
    REFUSED = "not carried"  # nothing written; something to do by hand
    IDLE = "no effect"  # it did nothing there either, or has no meaning for TLS: nothing to do


FINDINGS = frozenset({Fate.CHANGED, Fate.REFUSED})


@dataclass(frozen=True, slots=True)
class Written:
    """One line (or a whole single-value file) for the control directory. `key` is what may be there once."""

    file: str  # "tlspolicy"
    text: str
    key: str = ""

    def __str__(self) -> str:
        return f"control/{self.file}: {self.text}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of input. `before` and `after` are decisions in words; `problem` has its mend in it."""

    origin: Origin
    text: str
    fate: Fate
    before: str = ""
    after: str = ""
    written: tuple[Written, ...] = ()
    problem: str = ""


@dataclass(slots=True)
class Report:
    """Rows in the order of the input, and whole files to copy as they are (by their name in the control directory)."""

    rows: list[Row] = field(default_factory=list)
    copies: dict[str, str] = field(default_factory=dict)  # name in control: path to copy from

    @property
    def written(self) -> list[Written]:
        return [line for row in self.rows for line in row.written]

    @property
    def has_findings(self) -> bool:
        return any(row.fate in FINDINGS for row in self.rows)

    def refuse(self, origin: Origin, text: str, problem: str, before: str = "") -> None:
        self.rows.append(Row(origin, text, Fate.REFUSED, before, problem=problem))

    def hold(self, origin: Origin, text: str, problem: str, before: str, key: str) -> None:
        """A demand that could not be carried: without a line the default would hold, and mail go out under less.

        What stands in for it is a pin that nothing meets. Mail waits, and its reason shows the key to put there.
        """
        line = Written("tlspolicy", f'{key} pin match=sha256:{NOTHING} reason="not carried from {origin}"', key)
        self.rows.append(Row(origin, text, Fate.REFUSED, before, "mail waits", (line,), problem))

    def idle(self, origin: Origin, text: str, why: str) -> None:
        self.rows.append(Row(origin, text, Fate.IDLE, after=why))

    def carry(self, origin: Origin, text: str, written: Iterable[Written], before: str, after: str = "") -> None:
        """A line whose meaning is the same on both sides."""
        self.rows.append(Row(origin, text, Fate.SAME, before, after or "the same", tuple(written)))
