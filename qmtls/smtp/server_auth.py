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


def auth(session: Core, argument: bytes) -> None:
    refusal = _refusal(session)
    if refusal is not None:
        session.error(refusal)
        return
    mechanism, _, initial = argument.partition(b" ")
    exchange = Exchange(mechanism.decode("ascii", "replace"), session.mechanisms)
    _go_on(session, exchange, exchange.start(initial.strip(b" ")))


def respond(session: Core, exchange: Exchange) -> bool:
    """Takes the answer to a challenge; False if it is not there yet."""
    line = session.lines.next(session.buffer, MAX_RESPONSE)
    if line is None:
        return False
    if line is LineFault.TOO_LONG:
        session.exchange = None
        session.error(TOO_LONG)
    elif isinstance(line, LineFault):
        session.fault(line)
    else:
        try:
            _go_on(session, exchange, exchange.step(line))
        except CommandError as error:
            session.exchange = None
            session.error(error.reply)
    return True


def answer(session: Core, claim: Authenticate, reply: Reply) -> None:
    """The claim was judged."""
    if reply.is_positive:
        session.authenticated = claim.mechanism
        session.user = claim.user
    elif reply.is_permanent and not session.budget.error():
        session.end(server_replies.TOO_MANY_ERRORS, "too many errors")
        return
    session.send_answer(reply)


def _refusal(session: Core) -> Reply | None:
    if not session.tls:
        return server_replies.AUTH_NEEDS_TLS if session.config.starttls else server_replies.NO_AUTH
    if session.authenticated:
        return server_replies.AUTH_TWICE
    if not session.mechanisms:
        return server_replies.NO_AUTH
    return None if session.esmtp else server_replies.AUTH_NEEDS_EHLO


def _go_on(session: Core, exchange: Exchange, step: Reply | Authenticate) -> None:
    if isinstance(step, Authenticate):
        session.exchange = None
        session.ask(step)
    else:
        session.exchange = exchange
        session.send(step)
