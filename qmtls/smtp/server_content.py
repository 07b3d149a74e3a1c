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

_GO_AHEAD = server_replies.GO_AHEAD.encode()


def data(core: Core, argument: bytes) -> None:
    """DATA: may the content come?"""
    commands.nothing(argument)
    core.ask(events.DataStart(chunking=False))


def bdat(core: Core, argument: bytes) -> None:
    """BDAT (RFC 3030): its chunk is behind it in any case; only the first one asks."""
    chunk = _chunk_of(core, argument)
    if chunk is None:
        return
    if not chunk.size and not chunk.last and not core.budget.idle():
        core.end(server_replies.TOO_MANY_COMMANDS, "too many empty chunks")
        return
    first = not core.dialogue.chunking
    intake = core.intake
    if first or not isinstance(intake, Intake):
        core.intake = intake = Intake(_limit(core))
    intake.next_chunk(chunk)
    if first and intake.fault is None:
        core.ask(events.DataStart(chunking=True))
    else:
        core.settle(True)
        core.await_content()


def illegal_bdat(core: Core, argument: bytes, refusal: Reply, excused: bool) -> None:
    """A BDAT that may not come now: its chunk comes all the same (RFC 3030 section 2)."""
    chunk = _chunk_of(core, argument)
    if chunk and ((excused and core.budget.unseen()) or core.spend()):
        _skip(core, chunk, refusal)


def start_answered(core: Core, asked: events.DataStart, reply: Reply) -> None:
    """DATA, or the first BDAT, was answered: 354 lets the content come, though only DATA hears of it."""
    if not reply.is_positive:
        core.settle(False)
        if asked.chunking and reply.code != 421:
            _skip(core, core.intake.chunk, reply)
        else:
            core.send_answer(reply)
        return
    core.await_content()
    if asked.chunking:
        core.settle(True)
    else:
        core.intake = Intake(_limit(core))
        core.out.append(_GO_AHEAD)


def end_answered(core: Core, asked: events.ContentEnd, reply: Reply) -> None:
    """The message is stored or not; its transaction is over in any case."""
    core.dialogue.drop()
    core.budget.message()
    core.send_answer(reply)


def limit(core: Core, octets: int) -> None:
    """Lowers what this transaction may have of content."""
    core.dialogue.limit_content(octets)
    intake, asked = core.intake, core.asked
    if isinstance(asked, events.DataStart) and asked.chunking and isinstance(intake, Intake):
        intake.limit(_limit(core))  # its first chunk was announced before the question


def read(core: Core) -> bool:
    """Takes what there is; False if more is needed."""
    intake = core.intake
    event = intake.take(core.buffer)
    if event is not None:
        core.events.append(event)
    if intake.refusal is not None and intake.hopeless:
        core.end(intake.refusal, "refused content too large to read past")
    elif not intake.done:
        return event is not None
    elif isinstance(intake, Intake):
        _end(core, intake)
    else:
        core.content_read()
        core.send(intake.refusal)
    return True


def _end(core: Core, intake: Intake) -> None:
    core.content_read()
    refused = intake.finish()
    if refused is not None:
        core.events.append(refused)
    if intake.refusal is None:
        if intake.chunk.last:
            core.ask(events.ContentEnd(intake.size))
        else:
            core.send(server_replies.chunk_taken(intake.chunk.size))
    elif intake.fault is Fault.BARE:  # where we saw the end, others may have seen another one
        core.end(intake.refusal, "bare CR or LF in content")
    else:
        core.dialogue.drop(excused=True)
        core.send(intake.refusal)


def _chunk_of(core: Core, argument: bytes) -> Chunk | None:
    """None if BDAT is malformed: then nobody knows where the next command begins, and the session ends."""
    try:
        return commands.chunk(argument)
    except CommandError as error:
        core.end(error.reply, "BDAT without a size")
        return None


def _skip(core: Core, chunk: Chunk, refusal: Reply) -> None:
    """Reads past a chunk that is not wanted, then sends the reply."""
    core.intake = Unwanted(chunk, refusal)
    core.await_content()


def _limit(core: Core) -> int:
    """Octets; the stricter of the server's limit and the transaction's, 0 = none."""
    ours, lowered = core.config.max_size, core.dialogue.max_content
    return min(ours, lowered) if ours and lowered else ours or lowered
