"""`smtproutes`: domain:relay[:port], as in qmail, and relays that are spoken to in another way:

    domain:smtps:HOST[:PORT]    TLS from the first octet; port 465
    domain:lmtp:HOST:PORT       LMTP, with STARTTLS if it is offered; a port must be named, there is none for it
    domain:lmtp:unix:PATH       LMTP on a socket of this host

The last of two lines for one domain counts, as there; it is told.
"""

from __future__ import annotations

from qmtls.control.lists import BadValueError, ControlFiles, Line, quote
from qmtls.control.values import domain_or_parent, host_and_port
from qmtls.delivery.routes import Route, Routing, Scheme
from qmtls.recipients import Recipients

SMTP_PORT = 25
SMTPS_PORT = 465  # the qmail patch speaks TLS first there
SCHEMES = ("smtps", "lmtp")
MAX_SOCKET = 107  # octets of a socket's path in Linux


def read_routing(files: ControlFiles, recipients: Recipients) -> Routing:
    """`smtproutes`, and what is delivered here. Of two lines for one domain the last one holds, as in qmail."""
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
    host, port, scheme = read_relay(relay)
    return domain, Route(host, port, line.origin, scheme)


def read_relay(text: str) -> tuple[str, int, Scheme]:
    """Host, port and scheme of a relay as a line names it; a socket's path and 0. Raises BadValueError."""
    scheme, _, rest = text.partition(":")
    match scheme.lower():
        case "lmtp":
            return *_lmtp(rest), Scheme.LMTP
        case "smtps":
            return *host_and_port(rest, SMTPS_PORT), Scheme.SMTPS
    host, port = host_and_port(text, SMTP_PORT)
    # On this port TLS comes first, as the qmail patch has it; plain SMTP there would only hang.
    return host, port, Scheme.SMTPS if port == SMTPS_PORT else Scheme.SMTP


def _lmtp(relay: str) -> tuple[str, int]:
    kind, colon, path = relay.partition(":")
    if kind.lower() == "unix" and colon:
        if not path.startswith("/") or len(path.encode()) > MAX_SOCKET or "\0" in path:
            mend = f"write lmtp:unix:/PATH, of at most {MAX_SOCKET} octets"
            raise BadValueError(f"{quote(path)} cannot be the path of a socket", mend)
        return path, 0
    host, port = host_and_port(relay, 0)
    if not port:
        raise BadValueError("LMTP has no port of its own", "write lmtp:HOST:PORT; Dovecot's is 24")
    return host, port
