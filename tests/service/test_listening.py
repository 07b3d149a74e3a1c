"""Which endpoints, and the sockets: real ones on loopback, but nobody is served."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.tcp import Port

from qmtls.control.settings import Listener
from qmtls.service.listening import BACKLOG, DEFAULT, CannotServe, LateFactory, adopt, listen, own_addresses, wanted
from qmtls.tls.policy import Origin
from tests.net.wire import Reactor

LINE = Listener("smtp", "tcp:26", Origin("control/listen", 3))


class Binds(Reactor):
    """Binds for real, as the reactor of a program does."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: list[Any] = []

    def listenTCP(self, port: int, factory: Factory, backlog: int = 50, interface: str = "") -> Any:
        made = Port(port, factory, backlog, interface, self)
        made.startListening()
        self.ports.append((made, backlog))
        return made

    def adoptStreamPort(self, fd: int, family: int, factory: Factory) -> Any:
        assert not os.get_blocking(fd)
        return ("adopted", fd, family, factory)


def test_the_command_line_before_the_file_before_the_default() -> None:
    (asked,) = wanted([("smtp", "tcp:25")], (LINE,))
    assert (asked.endpoint, str(asked.origin)) == ("tcp:25", "--smtp")
    assert wanted([], (LINE,)) == (LINE,)
    assert wanted([], ()) == (DEFAULT,)


@pytest.mark.parametrize("role", ["smtps", "submission", "admin"])
def test_roles_that_do_not_exist_yet(role: str) -> None:
    with pytest.raises(CannotServe, match=rf"control/listen:4: the role {role} is not supported"):
        wanted([], (Listener(role, "tcp:465", Origin("control/listen", 4)),))


@pytest.fixture
def reactor() -> Any:
    made = Binds()
    yield made
    for port, _ in made.ports:
        if hasattr(port, "socket"):
            port.socket.close()


def test_a_socket(reactor: Binds) -> None:
    port: Any = listen(reactor, Listener("smtp", "tcp:0:interface=127.0.0.1", Origin("x")), Factory())
    assert port.getHost().host == "127.0.0.1"
    assert reactor.ports[0][1] == BACKLOG
    assert port.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    listen(reactor, Listener("smtp", "tcp:0:interface=127.0.0.1:backlog=7", Origin("x")), Factory())
    assert reactor.ports[1][1] == 7


@pytest.mark.parametrize(
    "endpoint", ["nonsense", "tcp:port", "tcp", "", "tcp:25:interface", "systemd:domain=INET:index=9"]
)
def test_what_is_no_endpoint(reactor: Binds, endpoint: str) -> None:
    with pytest.raises(CannotServe) as problem:
        listen(reactor, Listener("smtp", endpoint, Origin("control/listen", 3)), Factory())
    assert str(problem.value).startswith("control/listen:3: ")
    assert endpoint in str(problem.value) and "\n" not in str(problem.value)


def test_an_endpoint_that_changes_what_clients_say(reactor: Binds) -> None:
    """Behind a proxy each client would have the proxy's address, and so its right to relay."""
    with pytest.raises(CannotServe, match=r"control/listen:3: endpoints like haproxy:tcp:0"):
        listen(reactor, Listener("smtp", "haproxy:tcp:0:interface=127.0.0.1", Origin("control/listen", 3)), Factory())


def test_an_address_that_is_taken(reactor: Binds) -> None:
    port: Any = listen(reactor, Listener("smtp", "tcp:0:interface=127.0.0.1", Origin("x")), Factory())
    number = port.getHost().port
    with pytest.raises(CannotServe, match="Address already in use"):
        listen(reactor, Listener("smtp", f"tcp:{number}:interface=127.0.0.1", Origin("x")), Factory())


def test_an_interface_that_is_not_ours(reactor: Binds) -> None:
    with pytest.raises(CannotServe, match=r"cannot listen on tcp:0:interface=192\.0\.2\.1"):
        listen(reactor, Listener("smtp", "tcp:0:interface=192.0.2.1", Origin("x")), Factory())


def test_an_inherited_socket_does_not_block() -> None:
    with socket.socket() as sock:
        sock.setblocking(True)
        factory = Factory()
        port: Any = adopt(Binds(), sock.fileno(), socket.AF_INET, factory)
        assert port == ("adopted", sock.fileno(), socket.AF_INET, factory)


def test_our_own_addresses() -> None:
    assert own_addresses(lambda: ["192.0.2.1", "127.0.0.1"])() == {"192.0.2.1", "127.0.0.1"}
    everywhere = own_addresses(lambda: ["0.0.0.0"])()
    assert "127.0.0.1" in everywhere
    assert own_addresses(lambda: [""])() == everywhere == own_addresses(lambda: ["::"])()


def test_sockets_bound_before_there_is_anybody() -> None:
    late = LateFactory()
    assert late.buildProtocol(None) is None

    class Serving(Factory):
        protocol = Protocol

    late.serving = Serving()
    assert isinstance(late.buildProtocol(None), Protocol)
