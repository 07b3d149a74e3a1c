"""The content of one message on its way in, from DATA or the first BDAT to its end, or to its refusal.

Content passes through and is never held. From the first fault on it is only read past, to its true end: a session
that stopped earlier would take the rest for commands.
"""

from __future__ import annotations

from qmtls.smtp.commands import Chunk
from qmtls.smtp.content import MAX_DISCARD, ChunkReader, ContentCheck, DotReader, Fault
from qmtls.smtp.events import Content, ContentRefused
from qmtls.smtp.reply import Reply, reply


class Intake:
    """Call `take` for what has come until it is `done`, then `finish`. For BDAT `next_chunk` begins each chunk."""

    __slots__ = ("_check", "_max_size", "_reader", "_told", "chunk")

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._check = ContentCheck(max_size)
        self._reader: DotReader | ChunkReader = DotReader()
        self._told = False
        self.chunk = Chunk(0, last=True)  # the one under way; DATA is as the last

    @property
    def fault(self) -> Fault | None:
        """What is wrong with it, as far as it was seen."""
        return self._check.fault

    @property
    def refusal(self) -> Reply | None:
        """What the client is to hear at the end, if it is not for others to say."""
        return None if self._check.fault is None else self._check.fault.reply

    @property
    def size(self) -> int:
        """Octets of content so far."""
        return self._check.size

    @property
    def done(self) -> bool:
        """The end of the content, or of this chunk."""
        return self._reader.done

    @property
    def hopeless(self) -> bool:
        """Refused, and still no end."""
        return self._check.discarded > MAX_DISCARD and not self._reader.done

    def next_chunk(self, chunk: Chunk) -> None:
        """A chunk that would make the message too large is a fault from its first octet on."""
        self._reader = ChunkReader(chunk.size)
        self.chunk = chunk
        self.limit(self._max_size)

    def limit(self, max_size: int) -> None:
        """The limit is another one from now on; the chunk under way was not read yet."""
        self._max_size = self._check.max_size = max_size
        if max_size and self._check.size + self.chunk.size > max_size:
            self._check.refuse(Fault.TOO_LARGE)

    def take(self, buffer: bytearray) -> Content | ContentRefused | None:
        """Takes off the buffer's front all that is certain; None if there was nothing to tell."""
        data = self._reader.take(buffer)
        if data:
            self._check.feed(data)
        if self._check.fault is not None:
            return self._refuse(self._check.fault)
        return Content(data) if data else None

    def finish(self) -> ContentRefused | None:
        """This chunk, or the content, is done. Some faults show only at the end."""
        if self.chunk.last:
            self._check.finish()
        return self._refuse(self._check.fault) if self._check.fault is not None else None

    def _refuse(self, fault: Fault) -> ContentRefused | None:
        if self._told:
            return None
        self._told = True
        return ContentRefused(fault.reply)


class Unwanted:
    """A chunk that is only read past, and the reply behind it."""

    __slots__ = ("_reader", "chunk", "refusal")

    def __init__(self, chunk: Chunk, refusal: Reply) -> None:
        self._reader = ChunkReader(chunk.size)
        self.chunk = chunk
        self.refusal = refusal

    @property
    def done(self) -> bool:
        return self._reader.done

    @property
    def hopeless(self) -> bool:
        """Too large to read past: known at once."""
        return self.chunk.size > MAX_DISCARD

    def take(self, buffer: bytearray) -> None:
        self._reader.take(buffer)


NOTHING = Unwanted(Chunk(0, last=True), reply(503, "5.5.1", "no content was asked for"))
"""What takes the content while none is expected."""
