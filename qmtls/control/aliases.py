"""`aliases`: name: target, target ... A line that begins with a blank goes on with the targets of the one before.

A name alone holds in every domain of `locals`; name@domain in one, local or virtual. A target is an address, or the
name of a local recipient. Loops are problems of the line that closes them. Whether a target is there is for `reach`:
mailboxes come and go without the control directory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from qmtls.control.lists import BadValueError, ControlFiles, Line, quote
from qmtls.control.values import host, local_part
from qmtls.recipients import Alias, Recipients
from qmtls.smtp.address import Address, NeedsSmtpUtf8, folded, parse_address

FILE = "aliases"
# Recipients behind one name, counted with repetitions: those of a message must fit into the head of its queue file.
MAX_REACH = 10_000
MOST_LOOPS = 20  # that one run tells
SHOWN_NAMES = 10  # of a loop

_MEND = "write name: target, target"


def read_aliases(files: ControlFiles, recipients: Recipients) -> Recipients:
    """`recipients` with the aliases of the file."""
    aliases: dict[str, Alias] = {}
    for line, targets in _entries(files):
        with files.collecting(line.origin):
            alias = _alias(line, targets, recipients)
            first = aliases.setdefault(alias.name, alias)
            if first is not alias:
                raise BadValueError(f"{quote(alias.name)} is in {first.origin} already", "join the two lines")
    found = replace(recipients, aliases=aliases)
    _Walk(files, found).all()
    return found


def _entries(files: ControlFiles) -> Iterator[tuple[Line, list[str]]]:
    """Each line with the texts of its targets, also those of the lines that go on with it."""
    entry: tuple[Line, list[str]] | None = None
    for line in files.lines(FILE) or ():
        if line.text[0] in " \t":
            if entry is None:
                files.problem(line.origin, "begins with a blank, but there is no line to go on with", _MEND)
            else:
                entry[1].append(line.text)
            continue
        if entry is not None:
            yield entry
        name, colon, targets = line.text.partition(":")
        if colon:
            entry = (Line(name.rstrip(), line.origin), [targets])
        else:
            entry = None
            files.problem(line.origin, f"{quote(line.text)} has no colon", _MEND)
    if entry is not None:
        yield entry


def _alias(line: Line, texts: list[str], recipients: Recipients) -> Alias:
    """What one entry says. Raises BadValueError."""
    words = [word.strip() for text in texts for word in text.split(",")]
    targets = tuple(dict.fromkeys(_target(word, recipients) for word in words if word))
    if not targets:
        raise BadValueError(f"{quote(line.text)} has no target", f"{_MEND}, or remove the line")
    return Alias(_name(line.text, recipients), targets, line.origin)


def _name(text: str, recipients: Recipients) -> str:
    user, at, domain = text.rpartition("@")
    if not at:
        return folded(local_part(text))
    name = f"{folded(local_part(user))}@{host(domain)}"
    if not recipients.names(Address(user, host(domain))):
        mend = "list the domain in one of them, or remove the line"
        raise BadValueError(f"{quote(text)} is in a domain that neither locals nor virtualdomains hold", mend)
    return name


def _target(text: str, recipients: Recipients) -> Address:
    """An address, its domain in lower case; of a local recipient its name too, so that it is the same in any case."""
    if text[0] in '|/"' or text[0] == ":":
        mend = "write an address; programs, files and lists of others belong to whoever reads the mailbox"
        raise BadValueError(f"{quote(text)} is no address: mail goes to mailboxes and other hosts only", mend)
    if "@" not in text:
        if not recipients.postmaster_host:
            raise BadValueError(f"{quote(text)} has no domain, and locals are empty", "write the whole address")
        return Address(folded(local_part(text)), recipients.postmaster_host)
    try:
        parsed = parse_address(text)
    except NeedsSmtpUtf8:
        raise BadValueError(f"{quote(text)} is not ASCII", "write the domain as A-labels (xn--…)") from None
    except ValueError as problem:
        raise BadValueError(f"{quote(text)} is no address ({problem})", _MEND) from None
    address = Address(parsed.local_part, parsed.host)
    return Address(folded(parsed.local_part), parsed.host) if recipients.names(address) else address


class _Walk:
    """Goes through all aliases once, depth first, without recursion: a chain may be as long as the file."""

    def __init__(self, files: ControlFiles, recipients: Recipients) -> None:
        self._files = files
        self._recipients = recipients
        self._reach: dict[str, int] = {}  # recipients behind each alias that was entered
        self._path: dict[str, tuple[Alias, Iterator[Address]]] = {}  # those that are not done, outermost first
        self._loops = 0

    def all(self) -> None:
        for alias in self._recipients.aliases.values():
            if alias.name not in self._reach:
                self._enter(alias)
            while self._path and self._loops < MOST_LOOPS:
                name = next(reversed(self._path))
                self._step(name, *self._path[name])

    def _enter(self, alias: Alias) -> None:
        self._reach[alias.name] = 0
        self._path[alias.name] = (alias, iter(alias.targets))

    def _step(self, name: str, alias: Alias, targets: Iterator[Address]) -> None:
        """Goes on with the targets of `alias` until one must be entered first."""
        reach = self._reach
        for target in targets:
            behind = self._recipients.alias_for(target)
            if behind is None or behind is alias:
                reach[name] += 1
            elif behind.name in self._path:
                self._loop(alias, behind)
            elif behind.name in reach:
                reach[name] += reach[behind.name]
            else:
                self._enter(behind)
                return
        self._leave(name, alias)

    def _leave(self, name: str, alias: Alias) -> None:
        del self._path[name]
        if self._reach[name] > MAX_REACH:
            what = f"{quote(name)} leads to more than {MAX_REACH} recipients"
            self._files.problem(alias.origin, what, "make lists of that size with a list manager")
            self._reach[name] = 1  # told once, not for all that lead to it
        if self._path:
            self._reach[next(reversed(self._path))] += self._reach[name]

    def _loop(self, alias: Alias, back_to: Alias) -> None:
        names = [*self._path]
        shown = " -> ".join([*names[names.index(back_to.name) :][:SHOWN_NAMES], back_to.name])
        self._files.problem(alias.origin, f"closes a loop: {shown}", "take one of them out of the circle")
        self._loops += 1
