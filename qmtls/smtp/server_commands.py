"""The session's steps for command lines: which may come now, what is wrong with them, what they ask or are answered.

Before anything is done it is known that the command may come in this state (states.py) and is well formed
(commands.py). AUTH, DATA and BDAT go on in modules of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qmtls.smtp import commands, events, parameters, server_auth, server_content, server_replies
from qmtls.smtp.commands import Verb
from qmtls.smtp.content import Fault
from qmtls.smtp.envelope import Recipient
from qmtls.smtp.errors import CommandError
from qmtls.smtp.lines import LineFault
from qmtls.smtp.reply import Reply
from qmtls.smtp.server_core import Core
from qmtls.smtp.states import illegal

# What brings no message by itself; MAIL is one of them, because a message that comes of it clears the account.
_IDLE = frozenset(
    {Verb.EHLO, Verb.HELO, Verb.STARTTLS, Verb.AUTH, Verb.MAIL, Verb.RSET, Verb.NOOP, Verb.VRFY, Verb.HELP}
)


def read(core: Core) -> bool:
    """Does one command; False if there is none yet."""
    line = core.lines.next(core.buffer)
    if line is None:
        return False
    if isinstance(line, LineFault):
        core.fault(line)
        return True
    verb, argument = commands.parse(line)
    if not core.dialogue.begin(verb):
        _illegal(core, verb, argument)
        return True
    if verb in _IDLE and not core.budget.idle():
        core.end(server_replies.TOO_MANY_COMMANDS, "too many commands without a message")
        return True
    try:
        _STEPS[verb](core, argument)
    except CommandError as error:
        core.settle(False)
        core.error(error.reply)
    return True


def _illegal(core: Core, verb: Verb, argument: bytes) -> None:
    """A command that may not come now."""
    refusal = illegal(core.dialogue.state, verb)
    excused = core.dialogue.excuses(verb)
    if verb is Verb.HTTP:
        core.end(refusal, "HTTP")
    elif verb is Verb.BDAT:
        server_content.illegal_bdat(core, argument, refusal, excused)
    elif excused:
        core.unseen(refusal)
    else:
        core.error(refusal)


def _ehlo(core: Core, argument: bytes) -> None:
    _hello(core, argument, esmtp=True)


def _helo(core: Core, argument: bytes) -> None:
    _hello(core, argument, esmtp=False)


def _hello(core: Core, argument: bytes, *, esmtp: bool) -> None:
    name = commands.hello(argument)
    core.settle(True)
    core.dialogue.introduced(name, esmtp)
    core.out.append(server_replies.hello(core.config, esmtp, core.tls, core.offered_mechanisms))


def _starttls(core: Core, argument: bytes) -> None:
    commands.nothing(argument)
    if core.tls:
        core.error(server_replies.TLS_TWICE)
    elif not core.config.starttls:
        core.send(server_replies.NO_TLS)
    elif core.buffer:  # read later it would pass for something that came inside TLS
        core.end(server_replies.BEHIND_STARTTLS, "octets behind STARTTLS")
    else:
        core.settle(True)
        core.send(server_replies.READY_FOR_TLS)
        core.await_handshake()


def _mail(core: Core, argument: bytes) -> None:
    if not core.budget.may_try:
        core.end(server_replies.TOO_MANY_REFUSALS, "too many refused recipients")
        return
    config = core.config
    if config.submission and config.starttls and not core.tls:
        core.settle(False)
        core.send(server_replies.STARTTLS_FIRST)
        return
    transaction = commands.mail(argument, parameters.of_mail(core.dialogue.esmtp, core.tls, bool(core.mechanisms)))
    if config.max_size and (transaction.size or 0) > config.max_size:
        core.settle(False)
        core.send(Fault.TOO_LARGE.reply)
    else:
        core.ask(events.MailFrom(transaction))


def mail_answered(core: Core, asked: events.MailFrom, reply: Reply) -> None:
    """2xx opens the transaction."""
    core.dialogue.open(asked.transaction, reply.is_positive)
    core.send_answer(reply)


def _rcpt(core: Core, argument: bytes) -> None:
    dialogue = core.dialogue
    smtputf8 = dialogue.transaction is not None and dialogue.transaction.smtputf8
    recipient = commands.recipient(argument, parameters.of_rcpt(dialogue.esmtp, smtputf8), smtputf8=smtputf8)
    if len(dialogue.recipients) >= core.config.max_recipients:
        core.unseen(server_replies.TOO_MANY_RECIPIENTS)
    elif not core.budget.may_try:
        core.unseen(server_replies.RECIPIENTS_LATER)
    else:
        core.ask(recipient)


def rcpt_answered(core: Core, asked: events.RcptTo, reply: Reply) -> None:
    """2xx adds the recipient."""
    accepted = reply.is_positive
    core.dialogue.add(Recipient(asked.address, asked.parameters), accepted)
    if not accepted:
        core.budget.refusal()
    core.send_answer(reply)


def _rset(core: Core, argument: bytes) -> None:
    commands.nothing(argument)
    core.settle(True)
    core.send(server_replies.FLUSHED)


def _noop(core: Core, argument: bytes) -> None:
    commands.text(argument)
    core.send(server_replies.OK)


def _help(core: Core, argument: bytes) -> None:
    commands.text(argument)
    core.send(server_replies.HELP)


def _vrfy(core: Core, argument: bytes) -> None:
    commands.verify(argument)
    core.send(server_replies.VRFY)


def _quit(core: Core, argument: bytes) -> None:
    commands.nothing(argument)
    core.end(server_replies.goodbye(core.config), "QUIT")


_STEPS: Mapping[Verb, Callable[[Core, bytes], None]] = {
    Verb.EHLO: _ehlo,
    Verb.HELO: _helo,
    Verb.STARTTLS: _starttls,
    Verb.AUTH: server_auth.auth,
    Verb.MAIL: _mail,
    Verb.RCPT: _rcpt,
    Verb.DATA: server_content.data,
    Verb.BDAT: server_content.bdat,
    Verb.RSET: _rset,
    Verb.NOOP: _noop,
    Verb.VRFY: _vrfy,
    Verb.HELP: _help,
    Verb.QUIT: _quit,
}
