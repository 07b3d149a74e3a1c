"""The session's steps for content: DATA and BDAT, from the command to the question whether it is safe on disk.

Content goes through `intake.py`. Whatever is refused is read past to its end before the reply is sent, so that nothing
in it is taken for a command; where nobody knows its end, the session is over.
"""

from __future__ import annotations

from qmtls.smtp import commands, events, server_replies
from qmtls.smtp.commands import Chunk
from qmtls.smtp.content import Fault
from qmtls.smtp.errors import CommandError
from qmtls.smtp.intake import Intake, Unwanted
from qmtls.smtp.reply import Reply
from qmtls.smtp.server_core import Core
from qmtls.smtp.states import Phase

_GO_AHEAD = server_replies.GO_AHEAD.encode()


def data(session: Core, argument: bytes) -> None:
    commands.nothing(argument)
    session.ask(events.DataStart(chunking=False))


def bdat(session: Core, argument: bytes) -> None:
    chunk = _chunk_of(session, argument)
    if chunk is None:
        return
    if not chunk.size and not chunk.last and not session.budget.idle():
        session.end(server_replies.TOO_MANY_COMMANDS, "too many empty chunks")
        return
    first = not session.dialogue.chunking
    intake = session.intake
    if first or not isinstance(intake, Intake):
        session.intake = intake = Intake(_limit(session))
    intake.next_chunk(chunk)
    if first and intake.fault is None:
        session.ask(events.DataStart(chunking=True))
    else:
        session.settle(True)
        session.phase = Phase.CONTENT


def illegal_bdat(session: Core, argument: bytes, refusal: Reply, excused: bool) -> None:
    """A BDAT that may not come now: its chunk comes all the same (RFC 3030 section 2)."""
    chunk = _chunk_of(session, argument)
    if chunk and ((excused and session.budget.unseen()) or session.spend()):
        _skip(session, chunk, refusal)


def answer(session: Core, chunking: bool, reply: Reply) -> None:
    """DATA, or the first BDAT, was answered."""
    if not reply.is_positive:
        session.settle(False)
        if chunking and reply.code != 421:
            _skip(session, session.intake.chunk, reply)
        else:
            session.send_answer(reply)
        return
    session.phase = Phase.CONTENT
    if chunking:
        session.settle(True)
    else:
        session.intake = Intake(_limit(session))
        session.out.append(_GO_AHEAD)


def limit(session: Core, octets: int) -> None:
    """Lowers what this transaction may have of content."""
    session.dialogue.limit_content(octets)
    intake, asked = session.intake, session.asked
    if isinstance(asked, events.DataStart) and asked.chunking and isinstance(intake, Intake):
        intake.limit(_limit(session))  # its first chunk was announced before the question


def read(session: Core) -> bool:
    """Takes what there is; False if more is needed."""
    intake = session.intake
    event = intake.take(session.buffer)
    if event is not None:
        session.events.append(event)
    if intake.refusal is not None and intake.hopeless:
        session.end(intake.refusal, "refused content too large to read past")
    elif not intake.done:
        return event is not None
    elif isinstance(intake, Intake):
        _end(session, intake)
    else:
        session.phase = Phase.COMMAND
        session.send(intake.refusal)
    return True


def _end(session: Core, intake: Intake) -> None:
    session.phase = Phase.COMMAND
    refused = intake.finish()
    if refused is not None:
        session.events.append(refused)
    if intake.refusal is None:
        if intake.chunk.last:
            session.ask(events.ContentEnd(intake.size))
        else:
            session.send(server_replies.chunk_taken(intake.chunk.size))
    elif intake.fault is Fault.BARE:  # where we saw the end, others may have seen another one
        session.end(intake.refusal, "bare CR or LF in content")
    else:
        session.dialogue.drop(excused=True)
        session.send(intake.refusal)


def _chunk_of(session: Core, argument: bytes) -> Chunk | None:
    """None if BDAT is malformed: then nobody knows where the next command begins, and the session ends."""
    try:
        return commands.chunk(argument)
    except CommandError as error:
        session.end(error.reply, "BDAT without a size")
        return None


def _skip(session: Core, chunk: Chunk, refusal: Reply) -> None:
    """Reads past a chunk that is not wanted, then sends the reply."""
    session.intake = Unwanted(chunk, refusal)
    session.phase = Phase.CONTENT


def _limit(session: Core) -> int:
    """Octets; the stricter of the server's limit and the transaction's, 0 = none."""
    ours, lowered = session.config.max_size, session.dialogue.max_content
    return min(ours, lowered) if ours and lowered else ours or lowered
