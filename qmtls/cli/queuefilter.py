"""Which messages of the queue a command means: by id, and by what they are.

What an option cannot mean is wrong usage, above all nothing: `--reason "$X"` in a script whose X is empty must not
mean every message.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from functools import partial
from ipaddress import ip_network

from qmtls.cli.bins import Entry, State, Wanted
from qmtls.cli.octets import choice
from qmtls.cli.parser import Parser
from qmtls.delivery.holds import Clients
from qmtls.networks import read_address
from qmtls.smtp.address import Address, AddressError, folded, is_domain, parse_address
from qmtls.spool.api import Waiting
from qmtls.tls.scope import words_for

NAMES = ("sender", "to", "domain", "client", "reason", "older", "younger", "larger", "held", "state")
_AGE = re.compile(r"([0-9]{1,9})([smhdw]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LITERAL = re.compile(r"\[\S+\]")
_SIZE = re.compile(r"([0-9]{1,12})([KMG]?)")
_OCTETS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def add_filters(parser: Parser) -> None:
    group = parser.add_argument_group("which messages", "all that is given must fit; letters compare without case")
    group.add_argument(
        "--from", dest="sender", metavar="ADDR", type=sender, help="reverse-path: address, @domain, .domain or '<>'"
    )
    group.add_argument("--to", metavar="ADDR", type=recipient, help="a recipient still waiting: likewise")
    group.add_argument(
        "--domain", type=domain, help="a domain of recipients still waiting; .DOMAIN: all below it", metavar="DOMAIN"
    )
    group.add_argument(
        "--client", metavar="WHO", type=client, help="address or network it came from, or what let it in"
    )
    group.add_argument("--reason", metavar="TEXT", type=some_text, help="a part of the reason why it waits")
    group.add_argument("--older", metavar="AGE", type=age, help="arrived before: 30s, 10m, 2h, 3d, 1w")
    group.add_argument("--younger", metavar="AGE", type=age, help="arrived since")
    group.add_argument("--larger", metavar="SIZE", type=size, help="content of more octets: 812, 100K, 10M")
    group.add_argument("--held", action="store_true", help="short for --state held")
    group.add_argument("--state", choices=[state.value for state in State], help="what it waits for")


def filtered(args: argparse.Namespace) -> bool:
    """True if something is asked for."""
    given = (getattr(args, name) for name in NAMES)
    return any(value is not None and value is not False for value in given)


def sender(text: str) -> str:
    """One of the words of `tls.scope.words_for`, as are the next two."""
    return text if text == "<>" else recipient(text)


def recipient(text: str) -> str:
    if text[:1] in ("@", "."):
        return text[0] + _host(text[1:])
    if folded(text) == "postmaster":
        return "postmaster@"
    local_part, at, host = text.rpartition("@")
    if not (at and local_part and host):
        raise argparse.ArgumentTypeError(f"{text!r} is no address; write c@d.example, @a.example or .b.example")
    try:
        address = parse_address(text.removesuffix("."), smtputf8=True)
    except AddressError:  # as it may stand in the queue all the same: those of list managers end in @[]
        address = Address(local_part, host)
    return f"{folded(address.local_part)}@{address.host}"


def domain(text: str) -> str:
    return f".{_host(text[1:])}" if text.startswith(".") else f"@{_host(text)}"


def _host(text: str) -> str:
    host = Address("", text).host
    if not is_domain(host) and not _LITERAL.fullmatch(host):
        raise argparse.ArgumentTypeError(f"{text!r} is no domain; .b.example is all that is below b.example")
    return host


def client(text: str) -> Clients:
    """A network, or a name: of the identity, or as it called itself."""
    ip = read_address(text)
    if ip is not None:
        return Clients((ip_network(ip),))
    try:
        return Clients((ip_network(text, strict=False),))
    except ValueError:
        if read_address(text.partition("/")[0]) is not None:
            raise argparse.ArgumentTypeError(f"{text!r} is no network; write 192.0.2.0/24 or 2001:db8::/32") from None
        return Clients(identities=frozenset((folded(some_text(text)),)))


def some_text(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("nothing is given; every message would be meant")
    return text


def age(text: str) -> float:
    """Seconds. In lower case only: who writes 1M may mean a month."""
    found = _AGE.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no age; write 30s, 10m, 2h, 3d or 1w")
    return float(int(found[1]) * _SECONDS[found[2]])


def size(text: str) -> int:
    """Octets."""
    found = _SIZE.fullmatch(text.upper())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 812, 100K or 10M")
    return int(found[1]) * _OCTETS[found[2]]


def wanted(args: argparse.Namespace, now: float, ruled: bool) -> Wanted:
    """`ruled`: there are standing holds, so that names and times do not say who is held, nor logs why."""
    state = State.HELD.value if args.held and not args.state else args.state
    tests = _tests(args, now)
    if args.held and args.state not in (None, State.HELD.value):
        tests.append(lambda entry: False)
    if state is not None:
        tests.append(lambda entry: entry.state.value == state)
    if args.reason is not None:
        tests.append(lambda entry: args.reason.lower() in entry.reason.lower())
    name = _by_name(state) if state is not None and not ruled else lambda waiting: True
    return Wanted(name, choice(args, now, ruled), lambda entry: all(test(entry) for test in tests))


def _by_name(state: str) -> Callable[[Waiting], bool]:
    """Without standing holds the name and the time of a file say what its message waits for."""
    match State(state):
        case State.HELD:
            return lambda waiting: waiting.held
        case State.RETURNING:
            return lambda waiting: waiting.returning
        case State.WAITING:
            return lambda waiting: waiting.due > 0.0
        case State.NEW:
            return lambda waiting: not (waiting.due or waiting.held or waiting.returning)


def _tests(args: argparse.Namespace, now: float) -> list[Callable[[Entry], bool]]:
    """What the envelope says."""
    tests: list[Callable[[Entry], bool]] = []
    if args.older is not None:
        tests.append(lambda entry: entry.envelope.arrival.time <= now - args.older)
    if args.younger is not None:
        tests.append(lambda entry: entry.envelope.arrival.time >= now - args.younger)
    if args.larger is not None:
        tests.append(lambda entry: entry.size > args.larger)
    if args.sender is not None:
        tests.append(lambda entry: args.sender in words_for(entry.envelope.reverse_path))
    if args.client is not None:
        tests.append(lambda entry: _came_from(args.client, entry))
    tests += [partial(_is_for, word) for word in (args.to, args.domain) if word is not None]
    return tests


def _is_for(word: str, entry: Entry) -> bool:
    return any(word in words_for(address) for address in entry.recipients)


def _came_from(clients: Clients, entry: Entry) -> bool:
    arrival = entry.envelope.arrival
    return clients.admit(arrival.client, arrival.identity) or folded(arrival.helo) in clients.identities
