"""Writing and closing at once.

Twisted hands every write to the next turn of the reactor: two changes of the epoll set and one more turn for each
reply. A reply nearly always fits the socket's buffer, so it is sent in place; only what does not fit takes the
usual way. Under Twisted's TLS, or with anything still waiting to be sent, it is the usual way from the start. A
close is the same: with nothing left to send it need not wait for the next turn, and the last words go with it.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.main import CONNECTION_DONE
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure

_MORE = getattr(socket, "MSG_MORE", 0)  # Linux: what follows, here the close, goes into the same packet
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


def write_and_close(transport: Any, data: bytes) -> None:
    """The last words and `loseConnection()`: in place, and as one packet, where that can be done.

    Then `connectionLost` is called before it returns.
    """
    if not _nothing_waits(transport) or transport.producer is not None:
        transport.write(data)
        transport.loseConnection()
        return
    if data:
        try:
            sent = transport.socket.send(data, _MORE)
        except OSError:
            sent = 0
        if sent < len(data):
            transport.write(data[sent:])
            transport.loseConnection()
            return
    transport.connectionLost(_DONE)


def _nothing_waits(transport: Any) -> bool:
    return (
        isinstance(transport, Connection)
        and not transport.TLS
        and not transport.dataBuffer
        and not transport._tempDataBuffer
        and not transport.disconnecting
        and bool(transport.connected)
    )
