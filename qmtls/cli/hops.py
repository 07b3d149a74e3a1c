"""What a command line names as a destination: a domain, as mail for it goes, or a relay, written as in `smtproutes`."""

from __future__ import annotations

from qmtls.control.routes import SCHEMES, SMTP_PORT, read_relay
from qmtls.control.values import host as host_name
from qmtls.control.values import host_and_port
from qmtls.delivery.plan import NextHop, next_hop
from qmtls.delivery.routes import Routing
from qmtls.tls.names import is_ip


def hop_of(text: str, routing: Routing, domain: str = "") -> NextHop:
    """A name alone is a domain. An IP address, HOST:PORT, smtps:HOST, lmtp:HOST:PORT and lmtp:unix:PATH are this very
    relay, and so is any host with `domain`, the recipients'. Raises BadValueError."""
    recipients = host_name(domain) if domain else ""
    if text.partition(":")[0].lower() not in SCHEMES:
        name, port = host_and_port(text, 0)
        if not port and not recipients and not is_ip(name):
            return next_hop(name, routing)
        if not port:
            return NextHop(recipients or name, name, SMTP_PORT)
    relay, port, scheme = read_relay(text)
    return NextHop(recipients or relay, relay, port, scheme=scheme)
