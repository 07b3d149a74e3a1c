"""`destinations`: what next hops bear.

    DOMAIN|.PARENT|[HOST]:PORT|* concurrency=N connections=N rate=N/m messages-per-connection=N

`[HOST]:PORT` (or `[HOST]`, any port) is a relay of `smtproutes`; mail with a route goes by the relay's line. The rest
is as `limitlines` has it.
"""

from __future__ import annotations

from qmtls.control.limitlines import LimitFile, count, rate
from qmtls.control.lists import BadValueError, ControlFiles, quote
from qmtls.control.values import domain_or_parent, host_and_port
from qmtls.delivery.routes import Routing
from qmtls.delivery.terms import NO_TERMS, TermRules, Terms


def read_destinations(files: ControlFiles, routing: Routing, ceiling: int) -> TermRules:
    """The whole file; no limits without it. `ceiling` is `concurrencyremote`, which no line exceeds."""
    default, found = _FILE.read(files)
    for key, terms in found.items():
        _look_at_route(files, key, terms, routing)
    for terms in (default, *found.values()):
        if terms.concurrency > ceiling > 0:
            what = f"concurrency={terms.concurrency} is more than concurrencyremote, which is {ceiling} and holds"
            files.warn(terms.origin, what, "raise concurrencyremote, or lower this")
    return TermRules(default, found)


def _key(text: str) -> str:
    if not text.startswith("["):
        if ":" in text:
            raise BadValueError(f"{quote(text)} is no next hop", "write [host]:port for a relay of smtproutes")
        return domain_or_parent(text)
    name, port = host_and_port(text, 0)
    return f"[{name}]:{port}" if port else f"[{name}]"


def _look_at_route(files: ControlFiles, key: str, terms: Terms, routing: Routing) -> None:
    if key.startswith(("[", ".")):
        return
    route = routing.route_for(key)
    if route is not None and route.relay:
        what = f"does not count: mail for {key} goes to the relay of {route.origin}, by the relay's line"
        files.warn(terms.origin, what, f"write [{route.relay}]:{route.port} for the relay, or remove the line")


_FILE = LimitFile(
    name="destinations",
    everyone="*",
    built_in=NO_TERMS,
    key=_key,
    attributes={
        "concurrency": ("concurrency", count),
        "connections": ("connections", count),
        "rate": ("rate", rate),
        "messages-per-connection": ("messages", count),
    },
)
