"""Which endpoints to listen on, and the listening sockets: bound once, before privileges are dropped.

An endpoint is Twisted's string. `haproxy:` before one is ours: what comes in there begins with a header of the PROXY
protocol (`net.proxyheader`), and without one it is not served.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast

import ifaddr
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.tcp import Port
from twisted.python.failure import Failure

from qmtls.control.settings import Listener
from qmtls.net.doors import Door, Role
from qmtls.tls.policy import Origin

BACKLOG = 1024  # connections that the kernel holds while we are busy; Twisted's default is 50
DEFAULT = Listener("smtp", "tcp:2525:interface=127.0.0.1", Origin("the default"))
PROXIED = "haproxy:"
SAFE = ("tcp:", "tcp6:", "unix:", "systemd:")  # endpoints that hand on what clients say as they say it


class CannotServe(Exception):
    """The service cannot be started as configured; str() is the one line that says where and why."""


class LateFactory(Factory):
    """For sockets that are bound before there is anybody to serve them; until `serving` is set, clients wait."""

    noisy = False
    serving: Factory | None = None

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return None if self.serving is None else self.serving.buildProtocol(addr)


def wanted(
    options: Iterable[tuple[str, str]], configured: tuple[Listener, ...], *, certificate: bool
) -> tuple[Listener, ...]:
    """(role, endpoint) pairs of the command line, else those of control/listen, else the default. CannotServe.

    `certificate`: there is a servercert.pem, without which some roles cannot serve anybody.
    """
    chosen = tuple(Listener(role, text, Origin(f"--{role}")) for role, text in options) or configured or (DEFAULT,)
    for listener in chosen:
        if listener.role not in {role.value for role in Role}:
            raise CannotServe(
                f"{listener.origin}: the role {listener.role} is not supported by this version; "
                "use smtp, smtps or submission"
            )
        if listener.role != Role.SMTP.value and not certificate:
            raise CannotServe(
                f"{listener.origin}: {listener.role} is of no use without a certificate; "
                "put key and certificate into control/servercert.pem"
            )
    return chosen


def door_of(listener: Listener) -> Door:
    """What comes in there."""
    return Door(Role(listener.role), listener.endpoint.startswith(PROXIED))


def read_endpoint(reactor: Any, listener: Listener) -> IStreamServerEndpoint:
    """What to listen on. CannotServe with file and line if it is none. `reactor` is used by the endpoint only."""
    text = listener.endpoint.removeprefix(PROXIED)
    if text.startswith(PROXIED):
        raise CannotServe(f'{listener.origin}: "{listener.endpoint}" has haproxy: twice; write it once')
    if text.startswith(("tcp:", "tcp6:")) and "backlog=" not in text:
        text += f":backlog={BACKLOG}"
    try:
        found: IStreamServerEndpoint = serverFromString(reactor, text)
    except (ValueError, TypeError, LookupError) as problem:
        raise CannotServe(
            f'{listener.origin}: "{listener.endpoint}" is no server endpoint ({problem}); write for example tcp:25'
        ) from problem
    return found


def listen(reactor: Any, listener: Listener, factory: Factory, others: Iterable[Listener] = ()) -> IListeningPort:
    """The bound port. CannotServe with file and line if the endpoint is wrong or the address taken.

    `others` are all listeners: where one of them serves the same port over IPv4, this one leaves that to it.
    """
    if _is_six(listener) and any(not _is_six(one) and _port(one) == _port(listener) for one in others):
        reactor = OnlySix(reactor)
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
        # Workers inherit bare sockets: what this endpoint does to what clients say, they would not.
        raise CannotServe(
            f"{listener.origin}: endpoints like {listener.endpoint}, which change what clients say, are not supported; "
            f"use {' '.join(SAFE)}, or {PROXIED} before one of them"
        )
    _send_at_once(port)
    if listener.endpoint.removeprefix(PROXIED).startswith("systemd:"):
        _leave_the_name(port)
    return port


class OnlySix:
    """A reactor whose TCP sockets take no IPv4: on Linux one on :: does, and 0.0.0.0 is then taken."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def listenTCP(self, port: int, factory: Factory, backlog: int = BACKLOG, interface: str = "") -> IListeningPort:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as listening:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listening.bind((interface or "::", port))
                listening.listen(backlog)
            except OSError as problem:
                raise CannotListenError(interface, port, problem) from problem
            listening.setblocking(False)
            return cast(IListeningPort, self._reactor.adoptStreamPort(listening.fileno(), socket.AF_INET6, factory))


def _is_six(listener: Listener) -> bool:
    return listener.endpoint.removeprefix(PROXIED).startswith("tcp6:")


def _port(listener: Listener) -> str:
    """The port of a TCP endpoint as written, "" if it is none."""
    kind, *words = listener.endpoint.removeprefix(PROXIED).split(":")
    if kind not in ("tcp", "tcp6"):
        return ""
    named = (word.removeprefix("port=") for word in words if word.startswith("port=") or "=" not in word)
    return next(named, "")


def _leave_the_name(port: Any) -> None:
    """A unix socket that is not ours alone keeps its name when we close it: Twisted's would remove it."""
    if port.socket.family == socket.AF_UNIX:
        port.connectionLost = partial(Port.connectionLost, port)


def _send_at_once(port: Any) -> None:
    """Replies wait for nothing (TCP_NODELAY): on Linux an accepted socket inherits it."""
    if port.socket.family in (socket.AF_INET, socket.AF_INET6):
        port.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def adopt(reactor: Any, fd: int, family: int, factory: Factory) -> IListeningPort:
    """A socket inherited from the supervisor. It must not block: the losers of a race would hang in accept."""
    os.set_blocking(fd, False)
    port: IListeningPort = reactor.adoptStreamPort(fd, family, factory)
    _leave_the_name(port)
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
