"""Writing and closing at once.

Twisted hands every write to the next turn of the reactor: two changes of the epoll set and one more turn for each
reply. A reply nearly always fits the socket's buffer, so it is sent in place; only what does not fit takes the
usual way. Under Twisted's TLS, or with anything still waiting to be sent, it is the usual way from the start. A
close is the same: with nothing left to send it need not wait for the next turn.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.main import CONNECTION_DONE
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure

_DONE = Failure(CONNECTION_DONE)


def write_at_once(transport: Any, data: bytes) -> None:
    """`transport.write(data)`, in place where that can be done."""
    if not _nothing_waits(transport):
        transport.write(data)
        return
    try:
        sent = transport.socket.send(data)
    except OSError:  # full, or lost: the next turn of the reactor finds that out
        transport.write(data)
        return
    if sent < len(data):
        transport.write(data[sent:])


def close_at_once(transport: Any) -> None:
    """`transport.loseConnection()`, in place where that can be done: `connectionLost` is called before it returns."""
    if _nothing_waits(transport) and transport.producer is None:
        transport.connectionLost(_DONE)
    else:
        transport.loseConnection()


def _nothing_waits(transport: Any) -> bool:
    return (
        isinstance(transport, Connection)
        and not transport.TLS
        and not transport.dataBuffer
        and not transport._tempDataBuffer
        and not transport.disconnecting
        and bool(transport.connected)
    )
