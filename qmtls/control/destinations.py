"""`destinations`: what next hops bear.

    DOMAIN|.PARENT|[HOST]:PORT|* concurrency=N connections=N rate=N/m messages-per-connection=N

`[HOST]:PORT` (or `[HOST]`, any port) is a relay of `smtproutes`; mail with a route goes by the relay's line. What a
line does not name is as in the line `*`. A word that is not understood is a problem: never a limit less.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from qmtls.control.lists import BadValueError, ControlFiles, Line, quote
from qmtls.control.scopes import read_rate
from qmtls.control.values import domain_or_parent, host_and_port, number
from qmtls.delivery.routes import Routing
from qmtls.delivery.terms import NO_TERMS, TermRules, Terms
from qmtls.tls.scope import Rate

FILE = "destinations"
EVERYONE = "*"
NO_LIMIT = "none"
MOST = 1_000_000


def read_destinations(files: ControlFiles, routing: Routing, ceiling: int) -> TermRules:
    """The whole file; no limits without it. `ceiling` is `concurrencyremote`, which no line exceeds."""
    lines = files.lines(FILE) or []
    default = NO_TERMS
    for line in lines:
        if _name(line) == EVERYONE:
            with files.collecting(line.origin):
                if default is not NO_TERMS:
                    raise BadValueError(f"{EVERYONE} is here for the second time", f"{default.origin} is the first")
                default = _terms(line, NO_TERMS)
    found: dict[str, Terms] = {}
    for line in lines:
        if _name(line) != EVERYONE:
            with files.collecting(line.origin):
                key = _key(_name(line))
                if key in found:
                    raise BadValueError(f"{key} is here for the second time", f"{found[key].origin} is the first")
                found[key] = _terms(line, default)
                _look_at_route(files, line, key, routing)
    for terms in (default, *found.values()):
        if terms.concurrency > ceiling > 0:
            what = f"concurrency={terms.concurrency} is more than concurrencyremote, which is {ceiling} and holds"
            files.warn(terms.origin, what, "raise concurrencyremote, or lower this")
    return TermRules(default, found)


def _name(line: Line) -> str:
    return line.text.split(None, 1)[0]


def _key(text: str) -> str:
    if not text.startswith("["):
        if ":" in text:
            raise BadValueError(f"{quote(text)} is no next hop", "write [host]:port for a relay of smtproutes")
        return domain_or_parent(text)
    name, port = host_and_port(text, 0)
    return f"[{name}]:{port}" if port else f"[{name}]"


def _look_at_route(files: ControlFiles, line: Line, key: str, routing: Routing) -> None:
    if key.startswith(("[", ".")):
        return
    route = routing.route_for(key)
    if route is not None and route.relay:
        what = f"does not count: mail for {key} goes to the relay of {route.origin}, by the relay's line"
        files.warn(line.origin, what, f"write [{route.relay}]:{route.port} for the relay, or remove the line")


def _terms(line: Line, base: Terms) -> Terms:
    words = line.text.split()[1:]
    if not words:
        raise BadValueError("limits nothing", f"write {' '.join(_ATTRIBUTES)} behind it, each with = and a value")
    values: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in _ATTRIBUTES:
            raise BadValueError(f"{quote(word)} is no limit", f"write {', '.join(_ATTRIBUTES)} with = and a value")
        field, parse = _ATTRIBUTES[name]
        if field in values:
            raise BadValueError(f"{name}= is here twice", "keep one of them")
        values[field] = parse(value)
    return replace(base, origin=line.origin, **values)


def _count(text: str) -> int:
    return 0 if text == NO_LIMIT else number(text, 1, MOST)


def _rate_or_none(text: str) -> Rate | None:
    return None if text == NO_LIMIT else read_rate(text)


_ATTRIBUTES: dict[str, tuple[str, Callable[[str], object]]] = {
    "concurrency": ("concurrency", _count),
    "connections": ("connections", _count),
    "rate": ("rate", _rate_or_none),
    "messages-per-connection": ("messages", _count),
}
