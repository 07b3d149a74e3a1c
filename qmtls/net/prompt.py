"""A server transport that sends a reply at once.

Twisted hands every write to the next turn of the reactor: two changes of the epoll set and one more turn for each
reply. A reply nearly always fits the socket's buffer, so it is sent in place; only what does not fit takes the
usual way. Under TLS, or with anything still waiting to be sent, it is the usual way from the start.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.tcp import Server


class PromptServer(Server):
    """In place of `twisted.internet.tcp.Server`, as `Port.transport`."""

    def write(self, data: bytes) -> None:
        if not self.connected or self.disconnecting or self.TLS or self.dataBuffer or self._tempDataBuffer:
            super().write(data)
            return
        sent: Any = self.writeSomeData(data)
        if isinstance(sent, Exception):
            super().write(data)  # the next turn of the reactor finds the connection lost
        elif sent < len(data):
            super().write(data[sent:])


def make_prompt(port: Any) -> Any:
    """Lets a listening TCP port make PromptServer transports; any other kind of port stays as it is."""
    if getattr(port, "transport", None) is Server:
        port.transport = PromptServer
    return port
