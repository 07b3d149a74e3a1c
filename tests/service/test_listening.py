"""Which endpoints, and the sockets: real ones on loopback, but nobody is served."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import unix
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.tcp import Port
from twisted.protocols.policies import WrappingFactory
from twisted.python.systemd import ListenFDs

from qmtls.control.settings import Listener
from qmtls.net.doors import Door, Role
from qmtls.service.listening import (
    BACKLOG,
    DEFAULT,
    CannotServe,
    LateFactory,
    adopt,
    door_of,
    listen,
    own_addresses,
    wanted,
)
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

    def listenUNIX(self, *arguments: Any, **more: Any) -> Any:
        make: Any = unix.Port
        made = make(*arguments, reactor=self, **more)
        made.startListening()
        self.ports.append((made, 0))
        return made

    def adoptStreamPort(self, fd: int, family: int, factory: Factory) -> Any:
        assert not os.get_blocking(fd)
        kind: Any = unix.Port if family == socket.AF_UNIX else Port
        made = (
            kind._fromListeningDescriptor(self, fd, factory)
            if family == socket.AF_UNIX
            else kind._fromListeningDescriptor(self, fd, family, factory)
        )
        made.startListening()
        self.ports.append((made, 0))
        return made


def test_the_command_line_before_the_file_before_the_default() -> None:
    (asked,) = wanted([("smtp", "tcp:25")], (LINE,), certificate=False)
    assert (asked.endpoint, str(asked.origin)) == ("tcp:25", "--smtp")
    assert wanted([], (LINE,), certificate=False) == (LINE,)
    assert wanted([], (), certificate=False) == (DEFAULT,)


def test_a_role_that_does_not_exist_yet() -> None:
    with pytest.raises(CannotServe, match=r"control/listen:4: the role admin is not supported"):
        wanted([], (Listener("admin", "tcp:8080", Origin("control/listen", 4)),), certificate=True)


@pytest.mark.parametrize("role", ["smtps", "submission"])
def test_roles_that_need_a_certificate(role: str) -> None:
    listener = Listener(role, "tcp:465", Origin("control/listen", 4))
    assert wanted([], (listener,), certificate=True) == (listener,)
    with pytest.raises(CannotServe, match=rf"control/listen:4: {role} is of no use without a certificate; put .*"):
        wanted([], (listener,), certificate=False)


def test_what_comes_in_where() -> None:
    def door(role: str, endpoint: str) -> Door:
        return door_of(Listener(role, endpoint, Origin("x")))

    assert door("smtp", "tcp:25") == Door(Role.SMTP)
    assert door("smtps", "haproxy:tcp6:465") == Door(Role.SMTPS, proxied=True)
    assert door("submission", "haproxy:unix:/run/s") == Door(Role.SUBMISSION, proxied=True)


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


def test_an_endpoint_that_changes_what_clients_say(reactor: Binds, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers inherit bare sockets and would not do what it does."""

    class Changes:
        def listen(self, factory: Factory) -> Any:
            return TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(WrappingFactory(factory))

    monkeypatch.setattr("qmtls.service.listening.serverFromString", lambda reactor, text: Changes())
    with pytest.raises(CannotServe, match=r"control/listen:3: endpoints like odd:1, which change what clients say"):
        listen(reactor, Listener("smtp", "odd:1", Origin("control/listen", 3)), Factory())


def test_behind_a_proxy_it_is_the_endpoint_itself(reactor: Binds) -> None:
    """The header is read by the protocol, so that workers read it too."""
    factory = Factory()
    port: Any = listen(reactor, Listener("smtp", "haproxy:tcp:0:interface=127.0.0.1", Origin("x")), factory)
    assert port.factory is factory
    assert reactor.ports[0][1] == BACKLOG
    with pytest.raises(CannotServe, match=r"haproxy: twice"):
        listen(reactor, Listener("smtp", "haproxy:haproxy:tcp:0", Origin("x")), factory)


def test_a_port_of_both_kinds_of_address(reactor: Binds) -> None:
    """On Linux a socket on :: would take the IPv4 address too: whichever comes first, both are bound."""
    v4 = Listener("smtp", "tcp:0:interface=127.0.0.1", Origin("x"))
    number = listen(reactor, v4, Factory()).getHost().port  # type: ignore[attr-defined]
    four, six = (Listener("smtp", f"{kind}:{number}", Origin("x")) for kind in ("tcp", "haproxy:tcp6"))
    reactor.ports[0][0].socket.close()
    for order in ((four, six), (six, four)):
        sockets = [listen(reactor, one, Factory(), order).socket for one in order]  # type: ignore[attr-defined]
        assert {sock.family for sock in sockets} == {socket.AF_INET, socket.AF_INET6}
        for sock in sockets:
            sock.close()


def test_ipv6_alone_takes_both_kinds_as_ever(reactor: Binds) -> None:
    six = Listener("smtp", "tcp6:0", Origin("x"))
    port: Any = listen(reactor, six, Factory(), (six,))
    assert not port.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def test_a_port_of_ipv6_that_is_taken(reactor: Binds) -> None:
    six = Listener("smtp", "tcp6:0", Origin("x"))
    number = listen(reactor, six, Factory(), (six,)).getHost().port  # type: ignore[attr-defined]
    four, again = Listener("smtp", f"tcp:{number}", Origin("x")), Listener("smtp", f"tcp6:{number}", Origin("y"))
    with pytest.raises(CannotServe, match=r"y: cannot listen on tcp6:\d+: Address already in use"):
        listen(reactor, again, Factory(), (four, again))


def test_an_address_that_is_taken(reactor: Binds) -> None:
    port: Any = listen(reactor, Listener("smtp", "tcp:0:interface=127.0.0.1", Origin("x")), Factory())
    number = port.getHost().port
    with pytest.raises(CannotServe, match="Address already in use"):
        listen(reactor, Listener("smtp", f"tcp:{number}:interface=127.0.0.1", Origin("x")), Factory())


def test_an_interface_that_is_not_ours(reactor: Binds) -> None:
    with pytest.raises(CannotServe, match=r"cannot listen on tcp:0:interface=192\.0\.2\.1"):
        listen(reactor, Listener("smtp", "tcp:0:interface=192.0.2.1", Origin("x")), Factory())


def test_an_inherited_socket_does_not_block(reactor: Binds) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        sock.setblocking(True)
        factory = Factory()
        port: Any = adopt(reactor, sock.fileno(), socket.AF_INET, factory)
        assert port.factory is factory
        assert not os.get_blocking(sock.fileno())


@pytest.mark.parametrize("ours", [True, False])
def test_a_unix_socket_keeps_its_name_unless_it_is_ours_alone(reactor: Binds, tmp_path: Path, ours: bool) -> None:
    """systemd, or the supervisor, goes on listening by that name."""
    path = tmp_path / "smtp.sock"
    if ours:
        port: Any = listen(reactor, Listener("smtp", f"unix:{path}:lockfile=0", Origin("x")), Factory())
    else:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
            sock.listen()
            port = adopt(reactor, sock.fileno(), socket.AF_UNIX, Factory())
    port.stopListening()
    reactor.advance(0)
    assert path.exists() is not ours


def test_sockets_of_systemd(reactor: Binds, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "smtp.sock"
    inet, unix = socket.socket(), socket.socket(socket.AF_UNIX)
    inet.bind(("127.0.0.1", 0))
    unix.bind(str(path))
    for sock in (inet, unix):
        sock.listen()
    number = inet.getsockname()[1]
    fds = ListenFDs([inet.fileno(), unix.fileno()], ("smtp", "local"))
    monkeypatch.setattr("twisted.internet.endpoints._SystemdParser._sddaemon", fds)
    first: Any = listen(reactor, Listener("smtp", "haproxy:systemd:domain=INET:name=smtp", Origin("x")), Factory())
    assert first.getHost().port == number
    second: Any = listen(reactor, Listener("smtp", "systemd:domain=UNIX:index=1", Origin("x")), Factory())
    second.stopListening()
    reactor.advance(0)
    assert path.exists()
    for sock in (inet, unix):
        sock.detach()  # the endpoint closed it


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
