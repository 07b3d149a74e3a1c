"""`smtproutes`: domain:relay[:port], as in qmail. The last of two lines for one domain counts, as there; it is told."""

from __future__ import annotations

from qmtls.control.lists import BadValueError, ControlFiles, Line, quote
from qmtls.control.values import domain_or_parent, host_and_port
from qmtls.delivery.routes import Route, Routing
from qmtls.recipients import Recipients

SMTP_PORT = 25
SMTPS_PORT = 465  # the qmail patch speaks TLS first there
_SCHEMES = ("lmtp:", "smtps:")


def read_routing(files: ControlFiles, recipients: Recipients) -> Routing:
    routes: dict[str, Route] = {}
    for line in files.lines("smtproutes") or ():
        with files.collecting(line.origin):
            domain, route = _route(line)
            if domain in routes:
                what = f"has the same domain as {routes[domain].origin}, whose line is not used"
                files.warn(line.origin, what, "remove one of the two")
            routes[domain] = route
    return Routing(recipients.locals, routes, recipients.virtual)


def _route(line: Line) -> tuple[str, Route]:
    # A domain literal "[IPv6:…]" has colons of its own.
    end = line.text.find("]") if line.text.startswith("[") else 0
    colon = line.text.find(":", max(end, 0))
    if colon < 0:
        raise BadValueError(f"{quote(line.text)} has no colon", "write domain:relay or domain:relay:port")
    key, relay = line.text[:colon], line.text[colon + 1 :]
    domain = key.lower() if key.startswith("[") and key.endswith("]") else domain_or_parent(key) if key else ""
    if not relay:
        return domain, Route("", SMTP_PORT, line.origin)
    if relay.lower().startswith(_SCHEMES):
        scheme = relay.partition(":")[0]
        raise BadValueError(f"{scheme}: relays are not supported by this version", "write relay or relay:port")
    host, port = host_and_port(relay, SMTP_PORT)
    if port == SMTPS_PORT:
        raise BadValueError("TLS from the first byte (port 465) is not supported by this version", "use port 25 or 587")
    return domain, Route(host, port, line.origin)
