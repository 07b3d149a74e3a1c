"""Writing at once.

Twisted hands every write to the next turn of the reactor: two changes of the epoll set and one more turn for each
reply. A reply nearly always fits the socket's buffer, so it is sent in place; only what does not fit takes the
usual way. Under TLS, or with anything still waiting to be sent, it is the usual way from the start.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.tcp import Connection


def write_at_once(transport: Any, data: bytes) -> None:
    """`transport.write(data)`, in place where that can be done."""
    if (
        not isinstance(transport, Connection)
        or transport.TLS
        or transport.dataBuffer
        or transport._tempDataBuffer
        or transport.disconnecting
        or not transport.connected
    ):
        transport.write(data)
        return
    sent: Any = transport.writeSomeData(data)
    if isinstance(sent, Exception):
        transport.write(data)  # the next turn of the reactor finds the connection lost
    elif sent < len(data):
        transport.write(data[sent:])
