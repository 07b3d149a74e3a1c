"""Which messages of the queue a command means: by id, and by what they are."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from ipaddress import ip_address, ip_network

from qmtls.cli.bins import Entry, State, Wanted
from qmtls.cli.octets import choice
from qmtls.cli.parser import Parser
from qmtls.spool.api import Waiting

NAMES = ("sender", "to", "domain", "client", "reason", "older", "younger", "larger", "held", "state")
_AGE = re.compile(r"([0-9]{1,9})([smhdw]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SIZE = re.compile(r"([0-9]{1,12})([KMG]?)")
_OCTETS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def add_filters(parser: Parser) -> None:
    group = parser.add_argument_group("which messages", "all that is given must fit; letters compare without case")
    group.add_argument("--from", dest="sender", metavar="ADDR", help="reverse-path: an address, @domain, or '<>'")
    group.add_argument("--to", metavar="ADDR", help="a recipient still waiting: an address or @domain")
    group.add_argument("--domain", metavar="DOMAIN", help="a domain of recipients still waiting; .DOMAIN: all below it")
    group.add_argument("--client", metavar="WHO", help="address or network it came from, or what let it in")
    group.add_argument("--reason", metavar="TEXT", help="a part of the reason why it waits")
    group.add_argument("--older", metavar="AGE", type=age, help="arrived before: 30s, 10m, 2h, 3d, 1w")
    group.add_argument("--younger", metavar="AGE", type=age, help="arrived since")
    group.add_argument("--larger", metavar="SIZE", type=size, help="content of more octets: 812, 100K, 10M")
    group.add_argument("--held", action="store_true", help="short for --state held")
    group.add_argument("--state", choices=[state.value for state in State], help="what it waits for")


def filtered(args: argparse.Namespace) -> bool:
    """True if something is asked for."""
    return any(getattr(args, name) not in (None, False) for name in NAMES)


def age(text: str) -> float:
    """Seconds."""
    found = _AGE.fullmatch(text.lower())
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
        tests.append(lambda entry: _matches(args.sender, entry.sender))
    if args.client is not None:
        tests.append(_client(args.client))
    if args.to is not None:
        tests.append(lambda entry: any(_matches(args.to, text) for text in entry.addresses))
    if args.domain is not None:
        domain = args.domain.lower().rstrip(".")
        tests.append(lambda entry: any(_within(address.host, domain) for address in entry.recipients))
    return tests


def _matches(pattern: str, address: str) -> bool:
    pattern, address = pattern.lower(), address.lower()
    if pattern.startswith("@"):
        return address.endswith(pattern)
    return address == ("" if pattern == "<>" else pattern)


def _within(host: str, domain: str) -> bool:
    return host.endswith(domain) if domain.startswith(".") else host == domain


def _client(text: str) -> Callable[[Entry], bool]:
    """A network, or a name: of the identity, or as it called itself."""
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        name = text.lower()
        return lambda entry: name in (entry.envelope.arrival.identity.lower(), entry.envelope.arrival.helo.lower())

    def inside(entry: Entry) -> bool:
        try:
            return ip_address(entry.envelope.arrival.client.partition("%")[0]) in network
        except ValueError:
            return False

    return inside
