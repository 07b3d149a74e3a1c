"""Limits applied: who may come in, and how much who came in may do.

One Doorkeeper for each worker, one Visit for each connection. Where no limit is set nothing is counted, and it costs
nothing. Refusals are logged once a minute for each address, so that who is refused cannot fill the disk either.
"""

from __future__ import annotations

from collections.abc import Callable

from qmtls.limits import LimitRules, Limits, counted_as, too_fast, too_many_connections
from qmtls.net.buckets import IDENTITY, Buckets
from qmtls.smtp.reply import Reply
from qmtls.tls.clients import ClientRule
from qmtls.tls.scope import Rate

TELL_SECONDS = 60.0  # between two lines of the log about one address
MOST_TOLD = 4096  # addresses that are remembered for it

CONNECTED = b"c"  # what a bucket is about, before the address
CAME = b"r"
MESSAGES = b"m"
COMMANDS = b"k"
LOGINS = b"l"


class Visit:
    """One connection that came in. `leave` once, at its end."""

    __slots__ = ("_address", "_door", "_key", "limits")

    def __init__(self, door: Doorkeeper, limits: Limits, address: str, key: bytes) -> None:
        self._door = door
        self._address = address
        self._key = key  # b"" = it is not counted
        self.limits = limits

    def leave(self) -> None:
        """The connection is over, and counted no longer."""
        key, self._key = self._key, b""
        if key:
            self._door.buckets.leave(key)

    def message(self) -> Reply | None:
        """At MAIL: counts a message; the refusal if there were too many."""
        return self._door.count(self.limits, MESSAGES, self.limits.messages, self._address)

    def commands(self, number: int) -> Reply | None:
        """Counts that many commands; the last words if there were too many."""
        return self._door.count(self.limits, COMMANDS, self.limits.commands, self._address, number)

    def login(self) -> Reply | None:
        """Before a password is looked at: counts it as a failure; the answer if there were too many."""
        return self._door.count(self.limits, LOGINS, self.limits.logins, self._address)

    def logged_in(self) -> None:
        """It was no failure."""
        if self.limits.logins is not None:
            self._door.buckets.take(LOGINS + counted_as(self._address), self.limits.logins, -1)


class Doorkeeper:
    """Asks the limits, counts, and tells the log who was refused, of one address now and then only."""

    def __init__(self, buckets: Buckets, say: Callable[[str], None]) -> None:
        self.buckets = buckets
        self._say = say
        self._told: dict[bytes, tuple[float, int]] = {}  # when an address was last told of, and refusals since then

    def enter(self, rules: LimitRules, address: str) -> Visit | Reply:
        """A visit, or what a client that may not come in now is told before the connection is closed."""
        limits = rules.of(address)
        refusal = self.count(limits, CAME, limits.rate, address)
        if refusal is not None:
            return refusal
        if not limits.connections:
            return Visit(self, limits, address, b"")
        key = CONNECTED + counted_as(address)
        if self.buckets.enter(key, limits.connections):
            return Visit(self, limits, address, key)
        return self._refuse(limits, address, too_many_connections(limits))

    def wait(self, rule: ClientRule) -> float:
        """Takes a token of an identity's rate: 0.0; or the seconds until there is one."""
        rate = rule.scope.rate
        return 0.0 if rate is None else self.buckets.take(identity_key(rule), rate)

    def count(self, limits: Limits, what: bytes, rate: Rate | None, address: str, number: int = 1) -> Reply | None:
        """Counts `number` of `what`; the refusal if that is too many."""
        if rate is None:
            return None
        seconds = self.buckets.take(what + counted_as(address), rate, number)
        if not seconds:
            return None
        return self._refuse(limits, address, too_fast(_WORDS[what], rate, seconds))

    def _refuse(self, limits: Limits, address: str, reply: Reply) -> Reply:
        now = self.buckets.now()
        key = counted_as(address)
        at, since = self._told.get(key, (-TELL_SECONDS, 0))
        if now < at + TELL_SECONDS:
            self._told[key] = (at, since + 1)
            return reply
        if len(self._told) >= MOST_TOLD:
            self._told = {k: v for k, v in self._told.items() if now < v[0] + TELL_SECONDS}
            if len(self._told) >= MOST_TOLD:
                return reply  # so many at once say nothing new
        self._told[key] = (now, 0)
        more = f" unlogged={since}" if since else ""
        self._say(f"refused client={address} limit={limits.origin}{more} reply={reply}")
        return reply


def identity_key(rule: ClientRule) -> bytes:
    """Of the bucket of one line: the same wherever in the file it stands, another for another scope."""
    scope = rule.scope
    bounds = (scope.senders.text if scope.senders else "", scope.recipients.text if scope.recipients else "")
    rate = scope.rate.text if scope.rate else ""
    return IDENTITY + "\0".join((rule.kind, rule.value, rate, *bounds, scope.label)).encode()


_WORDS = {CAME: "connections", MESSAGES: "messages", COMMANDS: "commands", LOGINS: "failed logins"}
