"""Who speaks before our greeting.

RFC 5321 section 3.1 has a client wait for it; programs that do not read what they are answered do not. Nobody is made
to wait for the sake of this: it is only looked at what is there already.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.tcp import Connection

_READ = 64 * 1024


def spoke_first(transport: Any) -> bool:
    """True if something came already. It is read and thrown away, so that a close does not take our last words back."""
    if not isinstance(transport, Connection):
        return False
    try:
        return bool(transport.socket.recv(_READ))
    except OSError:  # nothing is there; or the connection is gone, which the next read finds out
        return False
