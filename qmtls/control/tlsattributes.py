"""The attributes of a `tlspolicy` line: Postfix's, with Postfix's meaning, and our own.

Each is read here or refused by name. `ALLOWED` says which level knows which: one that means nothing at its level is a
problem, because whoever wrote it expected something of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date

from cryptography import x509

from qmtls.control.lists import BadValueError, Content, ControlFiles, quote, read_regular
from qmtls.control.pem import load_certificates
from qmtls.control.values import domain_or_parent, host, host_or_address, sha256_digest, spki_digest
from qmtls.tls.groups import is_hybrid, known_group
from qmtls.tls.names import is_ip
from qmtls.tls.policy import Level, Origin

# Postfix's grades (smtp_tls_ciphers); the weaker ones have no place beside TLS 1.2.
CIPHER_GRADES = {"medium": "HIGH:MEDIUM:!aNULL:!eNULL", "high": "HIGH:!aNULL:!eNULL"}

_NOTES = frozenset({"until", "owner", "reason"})
_HELLO = _NOTES | {
    "protocols",
    "ciphers",
    "exclude",
    "servername",
    "groups",
    "tickets",
    "connection_reuse",
    "enable_rpk",
}
_TLS = _HELLO | {"pq"}
ALLOWED = {
    Level.NONE: _NOTES,
    Level.MAY: _HELLO,
    Level.DANE: _HELLO,  # it may end as may
    Level.ENCRYPT: _TLS,
    Level.DANE_ONLY: _TLS,
    Level.STS: _TLS | {"tafile"},
    Level.VERIFY: _TLS | {"match", "tafile"},
    Level.SECURE: _TLS | {"match", "tafile"},
    Level.PIN: _TLS | {"match"},
}
KNOWN = frozenset().union(*ALLOWED.values())
REPEATABLE = frozenset({"match", "tafile"})
# What Postfix takes from a policy server only (socketmap), never from a table that people write.
_FROM_SERVERS = frozenset(
    {"policy_ttl", "policy_type", "policy_domain", "policy_string", "policy_failure", "mx_host_pattern"}
)

_HEX_DIGESTS = {32: "MD5", 40: "SHA-1", 64: "SHA-256"}
_VERSIONS = ("SSLv2", "SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")  # oldest first
_OURS = ("TLSv1.2", "TLSv1.3")
_WORDS_OF_MATCH = frozenset({"hostname", "nexthop", "dot-nexthop"})
_CIPHER = re.compile(r"[A-Za-z0-9_+.-]+\Z")


@dataclass(slots=True)
class Draft:
    """A line while its attributes are read."""

    level: Level
    names: list[str] = field(default_factory=list)
    certificates: set[bytes] = field(default_factory=set)
    keys: set[bytes] = field(default_factory=set)
    anchors: list[x509.Certificate] = field(default_factory=list)
    min_version: str = ""
    max_version: str = ""
    ciphers: str = ""
    exclude: str = ""
    groups: str = ""
    server_name: str = ""
    pq: bool = False
    reuse: bool = True
    until: date | None = None
    owner: str = ""
    reason: str = ""


def check_attribute(level: Level, name: str, value: str | None, *, repeated: bool) -> None:
    """Raises BadValueError unless `name` may stand in a line of this level."""
    if not value:
        raise BadValueError(f"{quote(name)} has no value", "write attributes as name=value")
    if name in _FROM_SERVERS:
        mend = "remove it; for MTA-STS write the level sts, or leave it to the default"
        raise BadValueError(f"the attribute {name} is for Postfix's policy servers, and not supported", mend)
    if name not in KNOWN:
        mend = "remove it if the rule is strong enough without it, else remove the line"
        raise BadValueError(f"the attribute {quote(name)} is not known", mend)
    if name not in ALLOWED[level]:
        levels = ", ".join(each.value for each in Level if name in ALLOWED[each])
        raise BadValueError(f"{name}= means nothing at level {level.value}", f"remove it, or take a level of: {levels}")
    if repeated and name not in REPEATABLE:
        raise BadValueError(f"{name}= is there twice", "write it once")


def check_whole(draft: Draft) -> None:
    """What the attributes together must not be. Raises BadValueError."""
    if draft.level is Level.PIN and not (draft.keys or draft.certificates):
        raise BadValueError("pins nothing", "add match=spki:BASE64 or match=sha256:HEX")
    if draft.pq and draft.max_version:
        raise BadValueError("pq=require needs TLS 1.3, which protocols= forbids", "remove one of the two")
    if draft.pq and draft.groups and not any(map(is_hybrid, draft.groups.split(":"))):
        raise BadValueError("pq=require needs a hybrid group, and groups= has none", "add X25519MLKEM768 to groups=")


def _read_match(files: ControlFiles, draft: Draft, value: str) -> None:
    pin = draft.level is Level.PIN
    # As in Postfix: digests hold colons, so "|" is between them; names are parted by ":".
    for word in value.split("|") if pin else re.split("[:|]", value):
        if pin:
            _add_pin(draft, word)
        else:
            draft.names.append(_match_name(word))


def _add_pin(draft: Draft, word: str) -> None:
    kind, colon, value = word.partition(":")
    if colon and kind.lower() == "sha256":
        draft.certificates.add(sha256_digest(value))
    elif colon and kind.lower() == "spki":
        draft.keys.add(spki_digest(value))
    else:
        # Postfix's own form: hexadecimal digits alone, of the certificate or of the key.
        algorithm = _HEX_DIGESTS.get(len(word.replace(":", "")))
        if algorithm in ("MD5", "SHA-1"):
            raise BadValueError(f"{quote(word)} looks like {algorithm}, which pins nothing safely", "use SHA-256")
        digest = sha256_digest(word)
        draft.certificates.add(digest)
        draft.keys.add(digest)


def _match_name(word: str) -> str:
    if word.lower() in _WORDS_OF_MATCH:
        return word.lower()
    if word.lower() in ("sha256", "spki"):
        raise BadValueError("match= names a digest, but this level compares names", "use the level pin")
    if is_ip(word):
        return host_or_address(word)
    return domain_or_parent(word)


def _read_tafile(files: ControlFiles, draft: Draft, value: str) -> None:
    path = files.control / value  # an absolute path stays as it is
    files.watch(path)
    try:
        found = files.trust.get(path)
        if found is None:
            content = read_regular(path)
            if content is None:
                mend = "write the path of a PEM file, from the control directory or absolute"
                raise BadValueError("does not exist", mend)
            found = files.trust[path] = load_certificates(Content(content[0], content[1], path, Origin(value)))
        draft.anchors += found
    except BadValueError as bad:
        # Whole, however long: the end of a path is what tells files apart. What a line holds is printable.
        raise BadValueError(f"tafile '{value}': {bad.what}", bad.mend) from bad


def _read_protocols(files: ControlFiles, draft: Draft, value: str) -> None:
    draft.min_version, draft.max_version = versions(value)


def versions(value: str) -> tuple[str, str]:
    """The oldest and the newest version that Postfix's `protocols=` lets through; "" for our own bounds.

    Raises BadValueError for a list that leaves neither TLS 1.2 nor TLS 1.3.
    """
    allowed = set(_VERSIONS)
    chosen: set[str] = set()
    for word in re.split("[:;, ]+", value):
        sign = word[: 2 if word.startswith((">=", "<=")) else 1 if word.startswith("!") else 0]
        version = next((v for v in _VERSIONS if v.lower() == word[len(sign) :].lower()), None)
        if version is None:
            raise BadValueError(f"{quote(word)} is no protocol version", "write protocols=>=TLSv1.2 or >=TLSv1.3")
        place = _VERSIONS.index(version)
        match sign:
            case ">=":
                allowed -= set(_VERSIONS[:place])
            case "<=":
                allowed -= set(_VERSIONS[place + 1 :])
            case "!":
                allowed.discard(version)
            case _:
                chosen.add(version)
    usable = [version for version in _OURS if version in (allowed & chosen if chosen else allowed)]
    if not usable:
        mend = "write protocols=>=TLSv1.2, TLSv1.2 or >=TLSv1.3"
        raise BadValueError(f"protocols={value} leaves no version: TLS 1.2 is the oldest here", mend)
    return "" if usable[0] == _OURS[0] else usable[0], "" if usable[-1] == _OURS[-1] else usable[-1]


def _read_ciphers(files: ControlFiles, draft: Draft, value: str) -> None:
    grade = CIPHER_GRADES.get(value.lower())
    if grade is None:
        raise BadValueError(f"the cipher grade {quote(value)} is not supported", "write medium or high")
    draft.ciphers = grade


def _read_exclude(files: ControlFiles, draft: Draft, value: str) -> None:
    words = [word for word in re.split(r"[\s,:]+", value) if word]
    if not words or not all(map(_CIPHER.match, words)):
        raise BadValueError(
            f"{quote(value)} names no ciphers", "write exclude=3DES:CAMELLIA, as `openssl ciphers` does"
        )
    draft.exclude = "".join(f":!{word}" for word in words)


def _read_groups(files: ControlFiles, draft: Draft, value: str) -> None:
    found = []
    for word in value.split(":"):
        group = known_group(word)
        if not group:
            mend = "write names such as X25519MLKEM768:X25519:P-256"
            raise BadValueError(f"the group {quote(word)} is not known", mend)
        found.append(group)
    draft.groups = ":".join(dict.fromkeys(found))


def _read_servername(files: ControlFiles, draft: Draft, value: str) -> None:
    draft.server_name = host(value)


def _read_pq(files: ControlFiles, draft: Draft, value: str) -> None:
    if value.lower() != "require":
        raise BadValueError(f"pq={quote(value)} is not understood", "write pq=require, or remove it")
    draft.pq = True


def _read_reuse(files: ControlFiles, draft: Draft, value: str) -> None:
    draft.reuse = _yes_or_no("connection_reuse", value)


def _read_tickets(files: ControlFiles, draft: Draft, value: str) -> None:
    if _yes_or_no("tickets", value):
        what = "tickets=yes is not supported: a session that is taken up again would show no certificate"
        raise BadValueError(what, "remove it; there are never any tickets")


def _read_rpk(files: ControlFiles, draft: Draft, value: str) -> None:
    if _yes_or_no("enable_rpk", value):
        what = "enable_rpk=yes is not supported: hosts are known by certificates, not by raw public keys"
        raise BadValueError(what, "remove it; match=spki: pins the key in the host's certificate")


def _yes_or_no(name: str, value: str) -> bool:
    if value.lower() not in ("yes", "no"):
        raise BadValueError(f"{name}={quote(value)} is not understood", f"write {name}=no, or remove it")
    return value.lower() == "yes"


def _read_until(files: ControlFiles, draft: Draft, value: str) -> None:
    try:
        draft.until = date.fromisoformat(value)
    except ValueError:
        raise BadValueError(f"{quote(value)} is no date", "write until=2027-01-31") from None


def _read_owner(files: ControlFiles, draft: Draft, value: str) -> None:
    draft.owner = value


def _read_reason(files: ControlFiles, draft: Draft, value: str) -> None:
    draft.reason = value


READERS: dict[str, Callable[[ControlFiles, Draft, str], None]] = {
    "match": _read_match,
    "tafile": _read_tafile,
    "protocols": _read_protocols,
    "ciphers": _read_ciphers,
    "exclude": _read_exclude,
    "groups": _read_groups,
    "servername": _read_servername,
    "pq": _read_pq,
    "connection_reuse": _read_reuse,
    "tickets": _read_tickets,
    "enable_rpk": _read_rpk,
    "until": _read_until,
    "owner": _read_owner,
    "reason": _read_reason,
}
