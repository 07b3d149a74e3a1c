"""Logging in at a relay (`control/authroutes`): over verified TLS, or not at all.

Not before the verdict, and not where the demand says nothing about who the host is: a password said to whoever answers
is no password any more. Mail waits instead, with a sentence that says which line would help.
"""

from __future__ import annotations

from qmtls.delivery.demands import unsafe_login
from qmtls.delivery.plan import NextHop
from qmtls.net.channel import Channel
from qmtls.net.targets import HostFailed
from qmtls.smtp.events import Answered, Ended
from qmtls.smtp.login import Exchange, Login, NoMechanism
from qmtls.tls.policy import Policy

ENCRYPTION_NEEDED = "4.7.11"  # RFC 4954 section 6, for a while
NOT_TAKEN = "4.7.8"


def check_demand(policy: Policy, login: Login, next_hop: NextHop) -> None:
    """HostFailed if `policy` would let the login go to whoever answers."""
    unsafe = unsafe_login(policy, login, next_hop)
    if unsafe:
        raise HostFailed(unsafe, ENCRYPTION_NEEDED, tls=True)


async def log_in(channel: Channel, login: Login) -> None:
    """AUTH on a channel that is ready. HostFailed: its mail waits."""
    try:
        exchange = Exchange(login, channel.session.extensions)
    except NoMechanism as problem:
        raise HostFailed(f"{channel.host} wants no login that {login.origin} has: {problem}", NOT_TAKEN) from problem
    line = exchange.first()
    while True:
        channel.session.ask(line)
        event = await channel.next()
        if not isinstance(event, Answered):
            why = event.why if isinstance(event, Ended) else "it did not answer"
            raise HostFailed(f"{channel.host} at AUTH: {why}", "4.4.2")
        code = event.reply.code
        if 200 <= code < 300:
            return
        if code >= 400:
            raise HostFailed(f"{channel.host} does not take the login of {login.origin}: {event.reply}", NOT_TAKEN)
        line = exchange.answer()
