"""Scripted SMTP servers for the client's side: each does one thing wrong, or nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IHandshakeListener, IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Protocol
from zope.interface import implementer

from tests.net import certs
from tests.net.certs import Leaf

_POSITIVE = re.compile(rb"2[0-9][0-9](?:[ -]|\r?\n|\Z)")
CLOSE = "close"  # ends the connection instead of a reply
HANG = "hang"  # says nothing
Answer = str | bytes | Callable[["Visit", str], str | bytes]


@dataclass
class Mail:
    """One message that a host took."""

    sender: str
    recipients: list[str]
    content: bytes
    tls: bool


@dataclass
class Host:
    """What a host does. A reply beginning with the word itself, "250 ok", or CLOSE or HANG; octets as they are; "" for
    the default."""

    leaf: Leaf | None = None  # STARTTLS is offered if there is one
    greeting: Answer = "220 there"
    ehlo: Sequence[str] = ("there", "PIPELINING", "8BITMIME", "SIZE 0")
    replies: dict[str, Answer] = field(default_factory=dict)  # by verb; "." for the end of content
    inject: bytes = b""  # behind the 220 of STARTTLS
    context: SSL.Context | None = None
    handshake: str = ""  # HANG: never answers the hello; CLOSE: closes on it; else octets instead of a handshake
    max_recipients: int = 0
    reads: bool = True  # False: takes no content
    implicit: bool = False  # TLS from the first octet
    lmtp: bool = False  # an answer for each recipient; `replies` of "." is asked with each
    visits: list[Visit] = field(default_factory=list)
    mail: list[Mail] = field(default_factory=list)

    def accept(self) -> Visit:
        return Visit(self)

    def said(self, n: int = -1) -> list[str]:
        """The verbs of one visit."""
        return self.visits[n].verbs


@implementer(IOpenSSLServerConnectionCreator)
class _Shows:
    def __init__(self, context: SSL.Context) -> None:
        self.context = context

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        return SSL.Connection(self.context, None)


@implementer(IHandshakeListener)
class Visit(Protocol):
    """One connection to a host."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.buffer = b""
        self.verbs: list[str] = []
        self.lines: list[str] = []
        self.tls = False
        self.server_name: str | None = None
        self.lost = False
        self.sender = ""
        self.recipients: list[str] = []
        self.content: list[bytes] | None = None
        self.silent = False
        self._transport: Any = None

    def connectionMade(self) -> None:
        self.host.visits.append(self)
        self._transport = self.transport
        if self.host.implicit and self.host.handshake:
            return
        if self.host.implicit and self.host.leaf is not None:
            self._transport.startTLS(_Shows(self.host.context or certs.context(self.host.leaf)))
        greeting = self.host.greeting
        self.reply(greeting(self, "") if callable(greeting) else greeting)

    def connectionLost(self, reason: object = None) -> None:
        self.lost = True

    def handshakeCompleted(self) -> None:
        self.tls = True
        name = self._transport.getHandle().get_servername()
        self.server_name = name.decode() if name else None

    def reply(self, text: str | bytes) -> None:
        if isinstance(text, bytes):
            self._transport.write(text)
        elif text == CLOSE:
            self.silent = True
            self._transport.loseConnection()
        elif text == HANG:
            self.silent = True
        elif text:
            self._transport.write(text.encode() + b"\r\n")

    def dataReceived(self, data: bytes) -> None:
        if self.host.handshake and self.host.implicit:
            if self.host.handshake == CLOSE:
                self._transport.loseConnection()
            return
        if self.host.handshake and "STARTTLS" in self.verbs and not self.tls:
            if self.host.handshake == CLOSE:
                self._transport.loseConnection()
            elif self.host.handshake != HANG:
                self._transport.write(self.host.handshake.encode())
            return
        self.buffer += data
        while b"\r\n" in self.buffer and not self.silent:
            if self.content is not None and not self.host.reads:
                return
            line, _, self.buffer = self.buffer.partition(b"\r\n")
            if self.content is None:
                self.command(line.decode())
            elif line == b".":
                self.end_of_content()
            else:
                self.content.append(line.removeprefix(b"."))

    def command(self, line: str) -> None:
        verb = line.split(" ", 1)[0].upper()
        self.verbs.append(verb)
        self.lines.append(line)
        answer = self.host.replies.get(verb, "")
        text = answer(self, line) if callable(answer) else answer
        if text:
            self.reply(text)
            return
        getattr(self, f"on_{verb.lower()}")(line)

    def on_ehlo(self, line: str) -> None:
        self.sender, self.recipients = "", []
        words = [*self.host.ehlo]
        if (self.host.leaf or self.host.handshake or self.host.inject) and not self.tls:
            words.append("STARTTLS")
        for n, word in enumerate(words):
            self.reply(f"250{' ' if n == len(words) - 1 else '-'}{word}")

    on_lhlo = on_ehlo

    def on_auth(self, line: str) -> None:
        self.reply("235 2.7.0 welcome")

    def on_helo(self, line: str) -> None:
        self.reply("250 there")

    def on_starttls(self, line: str) -> None:
        host = self.host
        self._transport.write(b"220 go\r\n" + host.inject)
        if not host.handshake and host.leaf is not None:
            self._transport.startTLS(_Shows(host.context or certs.context(host.leaf)))

    def on_mail(self, line: str) -> None:
        self.sender = line[line.index("<") + 1 : line.index(">")]
        self.reply("250 ok")

    def on_rcpt(self, line: str) -> None:
        if self.host.max_recipients and len(self.recipients) >= self.host.max_recipients:
            self.reply("452 4.5.3 too many recipients")
            return
        self.recipients.append(line[line.index("<") + 1 : line.index(">")])
        self.reply("250 ok")

    def on_data(self, line: str) -> None:
        if not self.recipients:
            self.reply("554 no recipients")
            return
        self.content = []
        self.reply("354 go on")

    def end_of_content(self) -> None:
        content, self.content = b"".join(b"%s\r\n" % line for line in self.content or ()), None
        self.verbs.append(".")
        if self.host.lmtp:
            self.answer_each(content)
            return
        answer = self.host.replies.get(".", "")
        text = (answer(self, "") if callable(answer) else answer) or "250 2.0.0 taken"
        if _taken(text):
            self.host.mail.append(Mail(self.sender, self.recipients, content, self.tls))
        self.sender, self.recipients = "", []
        self.reply(text)

    def answer_each(self, content: bytes) -> None:
        recipients, self.recipients = self.recipients, []
        answer = self.host.replies.get(".", "")
        for recipient in recipients:
            text = (answer(self, recipient) if callable(answer) else answer) or "250 2.0.0 taken"
            if _taken(text):
                self.host.mail.append(Mail(self.sender, [recipient], content, self.tls))
            self.reply(text)
            if text in (CLOSE, HANG):
                return

    def on_rset(self, line: str) -> None:
        self.sender, self.recipients = "", []
        self.reply("250 ok")

    def on_quit(self, line: str) -> None:
        self.reply("221 bye")
        self._transport.loseConnection()


def _taken(text: str | bytes) -> bool:
    octets = text if isinstance(text, bytes) else text.encode()
    return _POSITIVE.match(octets) is not None
