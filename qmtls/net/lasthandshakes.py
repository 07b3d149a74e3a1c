"""What a dialer's try at a host showed, on its way to the last handshakes that the ledger keeps for people.

Told of is every try that came to a verdict about TLS, whoever it was for; also that there was none, where a host offers
or takes none.
"""

from __future__ import annotations

from collections.abc import Callable

from qmtls.delivery.plan import NextHop
from qmtls.ledger.handshakes import Handshake
from qmtls.net.targets import Target
from qmtls.net.tlssessions import Showing
from qmtls.tls.facts import TlsFacts
from qmtls.tls.names import canonical

Show = Callable[[Handshake], None]


def handshake_of(next_hop: NextHop, target: Target, showing: Showing, now: float) -> Handshake | None:
    """None if it did not come to a verdict. `now`: Unix seconds."""
    found, verdict = showing.found, showing.verdict
    if found is None or verdict is None:
        return None
    tls = found.summary if isinstance(found, TlsFacts) else ""
    host, domain = canonical(target.name) or target.address, canonical(next_hop.domain)
    return Handshake(host, target.port, now, target.address, domain, verdict.ok, tls, verdict.sentence)
