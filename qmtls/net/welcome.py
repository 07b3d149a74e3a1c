"""Who comes in by a listening socket: one factory for each, and what happens before there is a session.

Behind a proxy the PROXY protocol's header comes first, within a time and a size. Then the limits are asked: who is
one too many is told so and never gets a session. While connections are getting scarce, those that do nothing are
given little time, so that many idle ones leave room for others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from qmtls.net.doorkeeper import Visit
from qmtls.net.doors import Caller, Door, Role
from qmtls.net.house import TOO_MANY, House
from qmtls.net.inbound import InboundProtocol
from qmtls.net.patience import Patience
from qmtls.net.proxyheader import BadHeader, Proxied, read_header
from qmtls.smtp.reply import Reply

HEADER_SECONDS = 10.0  # for the PROXY header; a proxy sends it at once
TELL_SECONDS = 60.0  # between two lines of the log about the same trouble
HURRY_SECONDS = 5.0  # between two looks at those that do nothing
CROWDED = 0.75  # of the connections that we may have


class TurnedAway(Protocol):
    """A connection that gets no session is told why, where it can read that."""

    def __init__(self, words: Reply | None) -> None:
        self._words = words

    def connectionMade(self) -> None:
        assert self.transport is not None
        if self._words is not None:
            self.transport.write(self._words.encode())
        self.transport.loseConnection()


class Welcome(Factory):
    """Makes the protocol of each connection that `door` accepts, of `most` at a time in this process."""

    noisy = False

    def __init__(self, house: House, most: int, door: Door) -> None:
        self._house = house
        self._most = most
        self._door = door
        self._told: dict[str, float] = {}
        self._hurried_at = -HURRY_SECONDS

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        if len(self._house.connections) >= self._most * CROWDED:
            self._hurry()
            if len(self._house.connections) >= self._most:
                return self._turn_away(f"too many connections: {self._most} at a time, as open files permit", TOO_MANY)
        if self._door.proxied:
            return BehindProxy(self._house, self._admit_proxied, self._bad_header)
        return self._admit(Caller(getattr(addr, "host", ""), self._door.role))

    def _admit(self, caller: Caller) -> Protocol:
        snapshot = self._house.current()
        role = self._door.role
        if role is Role.SMTPS and not snapshot.server.available:
            return self._turn_away("smtps without control/servercert.pem: nobody can be served", None)
        visit = self._house.doorkeeper.enter(snapshot.settings.limits, caller.address)
        if isinstance(visit, Visit):
            return InboundProtocol(self._house, caller, visit)
        return TurnedAway(visit if role is not Role.SMTPS else None)

    def _admit_proxied(self, header: Proxied, early: bool) -> Protocol:
        return self._admit(Caller(header.client, self._door.role, header.local, early))

    def _turn_away(self, why: str, words: Reply | None) -> TurnedAway:
        self._tell(why)
        return TurnedAway(words if self._door.role is not Role.SMTPS else None)

    def _bad_header(self, why: str) -> None:
        self._tell(f"refused a connection on {self._door.role.value}: PROXY header: {why}")

    def _tell(self, line: str) -> None:
        """The log is no place for as many lines as somebody makes connections."""
        now = self._house.clock.seconds()
        if now - self._told.get(line, -TELL_SECONDS) >= TELL_SECONDS:
            self._told[line] = now
            self._house.say(line)

    def _hurry(self) -> None:
        now = self._house.clock.seconds()
        if now - self._hurried_at >= HURRY_SECONDS:
            self._hurried_at = now
            self._tell(f"connections are getting scarce: those that do nothing must hurry, most={self._most}")
            for connection in tuple(self._house.connections):
                connection.hurry()


class BehindProxy(Protocol):
    """Reads the header, then gives the connection to the protocol that `admit` makes for the client."""

    def __init__(self, house: House, admit: Callable[[Proxied, bool], Protocol], bad: Callable[[str], None]) -> None:
        self._house = house
        self._admit = admit
        self._bad = bad
        self._data = b""
        self._patience = Patience(house.clock, self._too_late)

    def connectionMade(self) -> None:
        self._house.connections.add(self)
        self._patience.allow(HEADER_SECONDS)

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        try:
            header = read_header(self._data)
        except BadHeader as problem:
            self._give_up(str(problem))
            return
        if header is not None:
            self._end()
            rest = self._data[header.size :]
            protocol = self._admit(header, bool(rest))
            transport = cast(Any, self.transport)
            transport.protocol = protocol
            protocol.makeConnection(transport)
            if rest:
                protocol.dataReceived(rest)

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._end()

    def _end(self) -> None:
        self._patience.end()
        self._house.connections.discard(self)

    def _too_late(self) -> None:
        self._give_up("it did not come in time")

    def _give_up(self, why: str) -> None:
        self._bad(why)
        self._end()
        cast(Any, self.transport).abortConnection()

    # ------------------------------------------------------------ house.Connection

    def shut_down(self) -> None:
        self.cut_off()

    def cut_off(self) -> None:
        self._end()
        cast(Any, self.transport).abortConnection()

    def hurry(self) -> None:
        pass  # it has little time as it is
