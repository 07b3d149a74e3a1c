"""Which endpoints to listen on, and the listening sockets: bound once, before privileges are dropped."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from typing import Any

import ifaddr
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from qmtls.control.settings import Listener
from qmtls.tls.policy import Origin

BACKLOG = 1024  # connections that the kernel holds while we are busy; Twisted's default is 50
DEFAULT = Listener("smtp", "tcp:2525:interface=127.0.0.1", Origin("the default"))
ROLES = ("smtp",)


class CannotServe(Exception):
    """The service cannot be started as configured; str() is the one line that says where and why."""


class LateFactory(Factory):
    """For sockets that are bound before there is anybody to serve them; until `serving` is set, clients wait."""

    noisy = False
    serving: Factory | None = None

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return None if self.serving is None else self.serving.buildProtocol(addr)


def wanted(options: Iterable[tuple[str, str]], configured: tuple[Listener, ...]) -> tuple[Listener, ...]:
    """(role, endpoint) pairs of the command line, else those of control/listen, else the default. CannotServe."""
    chosen = tuple(Listener(role, text, Origin(f"--{role}")) for role, text in options) or configured or (DEFAULT,)
    for listener in chosen:
        if listener.role not in ROLES:
            raise CannotServe(
                f"{listener.origin}: the role {listener.role} is not supported by this version; use the role smtp"
            )
    return chosen


def read_endpoint(reactor: Any, listener: Listener) -> IStreamServerEndpoint:
    """What to listen on. CannotServe with file and line if it is none. `reactor` is used by the endpoint only."""
    text = listener.endpoint
    if text.split(":", 1)[0] in ("tcp", "tcp6") and "backlog=" not in text:
        text += f":backlog={BACKLOG}"
    try:
        found: IStreamServerEndpoint = serverFromString(reactor, text)
    except (ValueError, TypeError, LookupError) as problem:
        raise CannotServe(
            f'{listener.origin}: "{listener.endpoint}" is no server endpoint ({problem}); write for example tcp:25'
        ) from problem
    return found


def listen(reactor: Any, listener: Listener, factory: Factory) -> IListeningPort:
    """The bound port. CannotServe with file and line if the endpoint is wrong or the address taken."""
    results: list[Any] = []
    read_endpoint(reactor, listener).listen(factory).addBoth(results.append)
    if not results:
        raise CannotServe(f'{listener.origin}: the endpoint "{listener.endpoint}" does not listen at once')
    if isinstance(results[0], Failure):
        error = results[0].value
        reason = error.socketError.strerror if isinstance(error, CannotListenError) else str(error)
        raise CannotServe(
            f"{listener.origin}: cannot listen on {listener.endpoint}: {reason}; "
            "is another service running there, or is the port below 1024 and the user not root?"
        )
    port: IListeningPort = results[0]
    if getattr(port, "factory", factory) is not factory:
        # A PROXY header that nobody reads would give every client the proxy's rights; workers inherit bare sockets.
        raise CannotServe(
            f"{listener.origin}: endpoints like {listener.endpoint}, which change what clients say, are not supported "
            "by this version; use tcp:, tcp6:, unix: or systemd:"
        )
    _send_at_once(port)
    return port


def _send_at_once(port: Any) -> None:
    """Replies wait for nothing (TCP_NODELAY): on Linux an accepted socket inherits it."""
    if port.socket.family in (socket.AF_INET, socket.AF_INET6):
        port.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def adopt(reactor: Any, fd: int, family: int, factory: Factory) -> IListeningPort:
    """A socket inherited from the supervisor. It must not block: the losers of a race would hang in accept."""
    os.set_blocking(fd, False)
    port: IListeningPort = reactor.adoptStreamPort(fd, family, factory)
    return port


def own_addresses(hosts: Callable[[], Iterable[str]]) -> Callable[[], frozenset[str]]:
    """The IP addresses that our endpoints answer on; for a wildcard those of all interfaces."""

    def current() -> frozenset[str]:
        found: set[str] = set()
        for host in hosts():
            if host in ("0.0.0.0", "::", ""):
                found.update(_interface_addresses())
            else:
                found.add(host)
        return frozenset(found)

    return current


def _interface_addresses() -> set[str]:
    return {ip.ip if isinstance(ip.ip, str) else ip.ip[0] for adapter in ifaddr.get_adapters() for ip in adapter.ips}
