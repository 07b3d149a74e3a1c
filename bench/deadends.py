"""Next hops that take no mail: one that hangs, and one that does not even answer. Both are sockets, and no process."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

HOST = "127.0.0.1"
BACKLOG = 4096
PATIENCE = 0.2  # seconds; on loopback a connection that is not there by then will not come
MOST = 10


@contextlib.contextmanager
def hanging(port: int) -> Iterator[None]:
    """Connections are established, and nothing is ever said."""
    with socket.create_server((HOST, port), backlog=BACKLOG):
        yield


@contextlib.contextmanager
def silent(port: int) -> Iterator[None]:
    """Whoever knocks hears nothing: the kernel drops what does not fit into a full queue of connections."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(socket.create_server((HOST, port), backlog=0))
        for _ in range(MOST):
            client = stack.enter_context(socket.socket())
            client.settimeout(PATIENCE)
            try:
                client.connect((HOST, port))
            except TimeoutError:
                break
        else:
            raise OSError(f"port {port} still answers after {MOST} connections")
        yield
