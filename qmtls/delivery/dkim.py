"""DKIM signatures (RFC 6376, RFC 8463): which key signs a message, and the fields that go before it.

Signed is mail of our own: made on this host, or let in by an identity. Never mail that is only passing through, such as
what an alias sends on. The canonicalization is relaxed/relaxed; the body is hashed as it passes, so that a message of
any size costs the memory of one piece.

Whose key: that of the domain in From, else of the reverse-path's; a key serves the names below its domain, too. Who was
let in by an identity was asked for the right to his reverse-path, not to what he wrote into From: so there a key of
From's domain signs only if it is the reverse-path's as well.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from qmtls.delivery.verp import owner
from qmtls.smtp.envelope import Envelope
from qmtls.tls.names import canonical, is_host_name
from qmtls.tls.policy import Origin

# RFC 6376 section 5.4.1, and what receivers act upon since.
SIGNED = (
    "from",
    "sender",
    "reply-to",
    "subject",
    "date",
    "message-id",
    "to",
    "cc",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "content-disposition",
    "in-reply-to",
    "references",
    "resent-from",
    "resent-sender",
    "resent-to",
    "resent-cc",
    "resent-date",
    "resent-message-id",
    "list-id",
    "list-help",
    "list-subscribe",
    "list-unsubscribe",
    "list-unsubscribe-post",
    "list-post",
    "list-owner",
    "list-archive",
    "auto-submitted",
    "tls-required",
    "tls-report-domain",
    "tls-report-submitter",
)
# Signed once more than they are there: a second one, which some programs would show, breaks the signature.
OVERSIGNED = frozenset({"from", "reply-to", "subject", "date", "to", "cc"})

MAX_HEADER = 256 * 1024  # octets; far above what large MTAs take
MAX_FROM = 8192  # octets of From that are looked at
_LINE = 72  # octets of a line of the signature
_BLANKS = 4096  # empty lines hashed at a time

_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)\r\n")
_WSP = re.compile(rb"[ \t]+")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_COMMENT = re.compile(r"\((?:[^()\\]|\\.)*\)", re.DOTALL)
_NESTED = 10  # comments in comments
_IN_BRACKETS = re.compile(r"<[^<>]*@([^<>@]+)>")
_BARE = re.compile(r"@([^\s<>@,;:()]+)")


class Unsignable(Exception):
    """The message cannot be signed; str() is a fragment: "it has two From fields"."""


@dataclass(frozen=True, slots=True)
class DkimKey:
    """One `DOMAIN.SELECTOR.key`. `domain` is canonical."""

    domain: str
    selector: str
    key: RSAPrivateKey | Ed25519PrivateKey
    origin: Origin

    @property
    def algorithm(self) -> str:
        """The name for a= (RFC 6376 section 3.3, RFC 8463 section 3)."""
        return "rsa-sha256" if isinstance(self.key, RSAPrivateKey) else "ed25519-sha256"

    @property
    def kind(self) -> str:
        """For people: "RSA 2048 bits"."""
        return f"RSA {self.key.key_size} bits" if isinstance(self.key, RSAPrivateKey) else "Ed25519"

    def sign(self, data: bytes) -> bytes:
        """The signature of `data`, raw."""
        if isinstance(self.key, RSAPrivateKey):
            return self.key.sign(data, PKCS1v15(), SHA256())
        return self.key.sign(sha256(data).digest())  # RFC 8463 section 3

    @property
    def record(self) -> tuple[str, str]:
        """Name and text of the TXT record for its public half (RFC 6376 section 3.6, RFC 8463 section 4)."""
        public = self.key.public_key()
        if isinstance(self.key, RSAPrivateKey):
            kind, octets = "rsa", public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        else:
            kind, octets = "ed25519", public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return f"{self.selector}._domainkey.{self.domain}", f"v=DKIM1; k={kind}; p={b64encode(octets).decode('ascii')}"


DkimKeys = Mapping[str, Sequence[DkimKey]]  # by domain


def is_ours(envelope: Envelope) -> bool:
    """The mail was made here, or somebody was let in with it."""
    arrival = envelope.arrival
    return arrival.protocol == "local" or bool(arrival.identity)


def signatures(envelope: Envelope, content: Iterable[bytes], keys: DkimKeys, now: int) -> bytes:
    """The DKIM-Signature fields to stand before `content`, each with its CRLF; b"" if no key is for it.

    Reads the content once, with CRLF line ends. Unsignable; whatever `content` raises.
    """
    fields, body = _split(iter(content))
    chosen = _keys_for(envelope, fields, keys)
    if not chosen:
        return b""
    digest = _body_hash(body)
    names, canonical_fields = _selection(fields)
    return b"".join(_signature(key, names, canonical_fields, digest, now) for key in chosen)


# ------------------------------------------------------------ whose key


def _keys_for(envelope: Envelope, fields: Sequence[tuple[str, bytes]], keys: DkimKeys) -> Sequence[DkimKey]:
    reverse_path = envelope.reverse_path
    of_path = _below(canonical(owner(reverse_path).domain), keys) if reverse_path is not None else ()
    froms = [value for name, value in fields if name == "from"]
    if len(froms) > 1:
        raise Unsignable("it has two From fields")
    of_from = _below(author_domain(froms[0]), keys) if froms else ()
    if envelope.arrival.protocol == "local":
        return of_from or of_path
    return of_path


def _below(domain: str, keys: DkimKeys) -> Sequence[DkimKey]:
    """The keys of `domain`, else of the nearest domain above it."""
    while domain:
        found = keys.get(domain)
        if found:
            return found
        domain = domain.partition(".")[2]
    return ()


def author_domain(value: bytes) -> str:
    """The domain of the first address in a From field, canonical; "" if none can be made out."""
    text = _QUOTED.sub("", value[:MAX_FROM].decode("utf-8", "replace"))
    for _ in range(_NESTED):
        less = _COMMENT.sub("", text)
        if less == text:
            break
        text = less
    found = _IN_BRACKETS.search(text) or _BARE.search(text)
    domain = canonical(found[1].strip()) if found else ""
    return domain if is_host_name(domain) else ""


# ------------------------------------------------------------ the header


def _split(content: Iterator[bytes]) -> tuple[list[tuple[str, bytes]], Iterator[bytes]]:
    """Fields as (lower-case name, octets behind the colon), and the body in pieces."""
    head = b"\r\n"  # as if a line had ended before: a message may begin with its empty line
    end = -1
    for chunk in content:
        begin = max(len(head) - 3, 0)
        head += chunk
        end = head.find(b"\r\n\r\n", begin)
        if (end if end >= 0 else len(head)) > MAX_HEADER:
            raise Unsignable(f"its header is longer than {MAX_HEADER} octets")
        if end >= 0:
            break
    rest = head[end + 4 :] if end >= 0 else b""
    header = head[2 : end + 2] if end >= 0 else head[2:]
    fields = []
    position = 0
    while match := _FIELD.match(header, position):
        fields.append((match[1].decode("ascii").lower(), match[2]))
        position = match.end()
    if position != len(header):
        raise Unsignable("its header has a line that is no field")
    return fields, _chain(rest, content)


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest


def _relaxed(name: str, value: bytes) -> bytes:
    """RFC 6376 section 3.4.2, without the CRLF at its end."""
    return name.encode("ascii") + b":" + _WSP.sub(b" ", value.replace(b"\r\n", b"")).strip(b" ")


def _selection(fields: Sequence[tuple[str, bytes]]) -> tuple[list[str], bytes]:
    """The names for h=, and the fields that they stand for; of several of one name the last comes first."""
    there: dict[str, list[bytes]] = {}
    for name, value in fields:
        there.setdefault(name, []).append(value)
    names: list[str] = []
    octets = []
    for name in SIGNED:
        for value in reversed(there.get(name, ())):
            names.append(name)
            octets.append(_relaxed(name, value) + b"\r\n")
        if name in OVERSIGNED:
            names.append(name)
    return names, b"".join(octets)


def _signature(key: DkimKey, names: Sequence[str], canonical_fields: bytes, digest: bytes, now: int) -> bytes:
    tags = (
        f"v=1; a={key.algorithm}; c=relaxed/relaxed;",
        f"d={key.domain}; s={key.selector}; t={now};",
        *_folded([f"{name}:" for name in names[:-1]] + [f"{names[-1]};"], "h="),
        f"bh={b64encode(digest).decode('ascii')};",
        "b=",
    )
    text = "DKIM-Signature: " + "\r\n\t".join(tags)
    value = text.partition(":")[2].encode("ascii")
    signed = key.sign(canonical_fields + _relaxed("dkim-signature", value))
    encoded = b64encode(signed).decode("ascii")
    lines = [encoded[at : at + _LINE] for at in range(0, len(encoded), _LINE)]
    return (text + "\r\n\t".join(lines) + "\r\n").encode("ascii")


def _folded(words: Iterable[str], line: str) -> Iterator[str]:
    """`line` and the words, as lines."""
    for word in words:
        if len(line) + len(word) > _LINE:
            yield line
            line = ""
        line += word
    yield line


# ------------------------------------------------------------ the body


def _body_hash(pieces: Iterable[bytes]) -> bytes:
    """SHA-256 of the relaxed body (RFC 6376 section 3.4.4). Blanks and line ends are held until something follows."""
    digest = sha256()
    held = b""  # of the end of what was read
    lines = 0  # empty lines, or line ends, before it
    some = False
    for piece in pieces:
        data = held + piece
        text = data.rstrip(b" \t\r\n")
        tail = data[len(text) :]
        if text:
            while lines:
                digest.update(b"\r\n" * min(lines, _BLANKS))
                lines -= min(lines, _BLANKS)
            digest.update(_squeezed(text))
            some = True
        held = _squeezed(tail)
        last = held.rfind(b"\r\n") + 2  # what stands before it is line ends only
        if last > 1:
            lines += held.count(b"\r\n", 0, last)
            held = held[last:]
    if some:
        digest.update(b"\r\n")
    return digest.digest()


def _squeezed(data: bytes) -> bytes:
    """Each run of blanks as one, and none at the end of a line."""
    if b"\t" in data or b"  " in data:
        data = _WSP.sub(b" ", data)
    return data.replace(b" \r\n", b"\r\n")
