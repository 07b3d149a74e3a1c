"""The session's steps for AUTH (RFC 4954): from the command over its challenges to the question who the client is.

Offered and taken under TLS only, outside transactions, and once. The session keeps the name that was accepted, and
no password.
"""

from __future__ import annotations

from qmtls.smtp import server_replies
from qmtls.smtp.auth import MAX_RESPONSE, TOO_LONG, Exchange
from qmtls.smtp.errors import CommandError
from qmtls.smtp.events import Authenticate
from qmtls.smtp.lines import LineFault
from qmtls.smtp.reply import Reply
from qmtls.smtp.server_core import Core


def auth(core: Core, argument: bytes) -> None:
    """AUTH, with or without an initial response."""
    refusal = _refusal(core)
    if refusal is not None:
        core.error(refusal)
        return
    mechanism, _, initial = argument.partition(b" ")
    exchange = Exchange(mechanism.decode("ascii", "replace"), core.mechanisms)
    _go_on(core, exchange, exchange.start(initial.strip(b" ")))


def read(core: Core) -> bool:
    """Takes the answer to the challenge of `core.exchange`; False if it is not there yet."""
    exchange = core.exchange
    assert exchange is not None
    line = core.lines.next(core.buffer, MAX_RESPONSE)
    if line is None:
        return False
    if line is LineFault.TOO_LONG:
        core.exchange = None
        core.error(TOO_LONG)
    elif isinstance(line, LineFault):
        core.fault(line)
    else:
        try:
            _go_on(core, exchange, exchange.step(line))
        except CommandError as error:
            core.exchange = None
            core.error(error.reply)
    return True


def answered(core: Core, claim: Authenticate, reply: Reply) -> None:
    """The claim was judged."""
    if reply.is_positive:
        core.identified(claim.mechanism, claim.user)
    elif reply.is_permanent and not core.budget.error():
        core.end(server_replies.TOO_MANY_ERRORS, "too many errors")
        return
    core.send_answer(reply)


def _refusal(core: Core) -> Reply | None:
    if not core.tls:
        return server_replies.AUTH_NEEDS_TLS if core.config.starttls else server_replies.NO_AUTH
    if core.authenticated:
        return server_replies.AUTH_TWICE
    if not core.mechanisms:
        return server_replies.NO_AUTH
    return None if core.dialogue.esmtp else server_replies.AUTH_NEEDS_EHLO


def _go_on(core: Core, exchange: Exchange, step: Reply | Authenticate) -> None:
    if isinstance(step, Authenticate):
        core.exchange = None
        core.ask(step)
    else:
        core.exchange = exchange
        core.send(step)
