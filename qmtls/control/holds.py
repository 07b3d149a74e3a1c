"""`holds`: mail that stays in the queue while the line is there.

    [from=PATTERNS] [to=PATTERNS | domain=DOMAINS] [client=CLIENTS] [until=DATE] [reason=TEXT]
    destination=DOMAIN|HOST [until=DATE] [reason=TEXT]

Patterns are those of `tlsclients`; `domain=a.example,.b.example` is short for `to=@a.example,.b.example`. A client is
an address, a network, or what let the mail in: an e-mail, a label, a login name. A line that is not understood is a
problem: never a hold less. A line that holds everything is one, too; `concurrencyremote` 0 is for that.
"""

from __future__ import annotations

from math import inf
from pathlib import Path

from qmtls.control.lists import BadValueError, ControlFiles, Line, quote
from qmtls.control.scopes import read_day_end, read_patterns, split_entries, split_words
from qmtls.control.values import domain_or_parent, host_or_address, network
from qmtls.delivery.holds import Clients, Hold, Holds
from qmtls.smtp.address import folded

FILE = "holds"
WHAT = ("from", "to", "domain", "client", "destination")
KEYS = (*WHAT, "until", "reason")
MEND = 'write, for example: domain=a.example until=2027-01-31 reason="they move"'


def read_holds(files: ControlFiles) -> Holds:
    """The whole file; nothing is held without it."""
    found = []
    for line in files.lines(FILE) or ():
        with files.collecting(line.origin):
            found.append(read_hold(line))
    return Holds(tuple(found))


def load_holds(control: Path) -> Holds:
    """This file alone, for the commands. Raises ControlError."""
    files = ControlFiles(control)
    holds = read_holds(files)
    files.finish()
    return holds


def read_hold(line: Line) -> Hold:
    """One line. Raises BadValueError."""
    values = _values(line)
    kinds = [key for key in WHAT if key in values]
    if not kinds:
        raise BadValueError("says nothing of what to hold", MEND)
    if "destination" in kinds and len(kinds) > 1:
        raise BadValueError("destination= stands by itself", f"remove {kinds[0]}= from the line, or use domain=")
    if "to" in kinds and "domain" in kinds:
        raise BadValueError("to= and domain= mean the same", "put all patterns into to=")
    to = values.get("to") or ",".join(_domain_pattern(entry) for entry in _entries(values.get("domain")))
    return Hold(
        origin=line.origin,
        text=" ".join(f"{key}={value}" for key, value in values.items() if key != "reason"),
        senders=read_patterns(values["from"], null_path=True) if "from" in values else None,
        recipients=read_patterns(to, null_path=False) if to else None,
        clients=_clients(values["client"]) if "client" in values else None,
        destination=host_or_address(values["destination"]) if "destination" in values else "",
        until=read_day_end(values["until"]) if "until" in values else inf,
        reason=values.get("reason", ""),
    )


def _values(line: Line) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in split_words(line.text):
        key, equals, value = word.partition("=")
        if not equals or key not in KEYS:
            raise BadValueError(f"{quote(word)} is not understood", f"write {'= '.join(KEYS)}=, text in quotes")
        if key in found:
            raise BadValueError(f"{key}= is there twice", "write one, with commas between its entries")
        value = value[1:-1] if key == "reason" and len(value) > 1 and value[0] == value[-1] == '"' else value
        if not value:
            raise BadValueError(f"{key}= has no value", "write one, or remove the word")
        found[key] = value
    return found


def _entries(text: str | None) -> list[str]:
    return split_entries(text) if text else []


def _domain_pattern(text: str) -> str:
    domain = domain_or_parent(text)
    return domain if domain.startswith(".") else f"@{domain}"


def _clients(text: str) -> Clients:
    networks, identities = [], []
    for entry in split_entries(text):
        try:
            networks.append(network(entry))
        except BadValueError:
            if entry[0].isdigit() and "/" in entry:
                raise  # a network with a slip in it, and no name of anybody
            identities.append(folded(entry.strip('"')))
    return Clients(tuple(networks), frozenset(identities))
