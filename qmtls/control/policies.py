"""`tlspolicy` and `tlsdefault`: Postfix's TLS policy table in qmtls's form.

    DOMAIN LEVEL [attribute=value]...

Levels and attributes mean what they mean in Postfix; each is supported, or refused by name with file and line. Nothing
is ever passed over: a line that asks for something unknown might else be taken for a weaker one. As in Postfix a line
that begins with a blank continues the one before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date

from cryptography import x509

from qmtls.control.lists import BadValueError, Content, ControlFiles, Line, quote, read_regular
from qmtls.control.pem import load_certificates
from qmtls.control.values import domain_or_parent, host_and_port, host_or_address, sha256_digest, spki_digest
from qmtls.tls.names import is_ip
from qmtls.tls.policy import Level, Origin, PinSet, Policy, PolicyLine

LEVELS = {level.value: level for level in Level} | {"fingerprint": Level.PIN}
LATER_LEVELS = frozenset({"dane", "dane-only", "half-dane", "sts"})
LEVEL_MEND = "write none, may, encrypt, verify, secure or pin"

# Postfix's grades (smtp_tls_ciphers); the weaker ones have no place beside TLS 1.2.
CIPHER_GRADES = {"medium": "HIGH:MEDIUM:!aNULL:!eNULL", "high": "HIGH:!aNULL:!eNULL"}

_NOTES = frozenset({"until", "owner", "reason"})
_ALLOWED = {
    Level.NONE: _NOTES,
    Level.MAY: _NOTES | {"protocols", "ciphers"},
    Level.ENCRYPT: _NOTES | {"protocols", "ciphers"},
    Level.VERIFY: _NOTES | {"protocols", "ciphers", "match", "tafile"},
    Level.SECURE: _NOTES | {"protocols", "ciphers", "match", "tafile"},
    Level.PIN: _NOTES | {"protocols", "ciphers", "match"},
}
_KNOWN = _ALLOWED[Level.SECURE]
_REPEATABLE = frozenset({"match", "tafile"})
_WORD = re.compile(r"""([^\s,="]+)(?:=("[^"]*"|[^\s,"]*))?(?=[\s,]|\Z)""")
_GAP = re.compile(r"[\s,]*")
_HEX_DIGESTS = {32: "MD5", 40: "SHA-1", 64: "SHA-256"}
_MAY_OF_VERSIONS = ("SSLv2", "SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")  # oldest first
_FLOOR = "TLSv1.2"
_WORDS_OF_MATCH = frozenset({"hostname", "nexthop", "dot-nexthop"})


@dataclass(slots=True)
class _Draft:
    """A line while its attributes are read."""

    level: Level
    names: list[str] = field(default_factory=list)
    certificates: set[bytes] = field(default_factory=set)
    keys: set[bytes] = field(default_factory=set)
    anchors: list[x509.Certificate] = field(default_factory=list)
    min_version: str = ""
    ciphers: str = ""
    until: date | None = None
    owner: str = ""
    reason: str = ""


def read_policy_lines(files: ControlFiles) -> dict[str, PolicyLine]:
    """The lines of `tlspolicy` by key. A key that is there twice is a problem."""
    found: dict[str, PolicyLine] = {}
    for line in _logical_lines(files):
        with files.collecting(line.origin):
            key, _, rest = line.text.partition(" ")
            key = _key(key)
            if key in found:
                first = found[key].policy.origin
                raise BadValueError(f"{key} has a line already, {first}", "write one line for each name")
            found[key] = parse_line(files, key, Line(rest, line.origin))
    return found


def read_default(files: ControlFiles) -> PolicyLine:
    """`tlsdefault`: a level with attributes, as behind the domain of a `tlspolicy` line. Missing = may."""
    line = files.first_line("tlsdefault")
    missing = Policy(Level.MAY, files.origin("tlsdefault"), why="no rule (the default, may)")
    if line is not None:
        with files.collecting(line.origin):
            return parse_line(files, "", line)
    return PolicyLine("", missing)


def parse_line(files: ControlFiles, key: str, line: Line) -> PolicyLine:
    """LEVEL and attributes for `key` ("" for tlsdefault). Raises BadValueError."""
    words = list(_words(line.text))
    if not words:
        raise BadValueError("names no level", LEVEL_MEND)
    level = _level(words[0])
    draft = _Draft(level)
    seen = set()
    for name, value in words[1:]:
        _check_attribute(level, name, value, repeated=name in seen)
        seen.add(name)
        _ATTRIBUTES[name](files, draft, value or "")
    if level is Level.PIN and not (draft.keys or draft.certificates):
        raise BadValueError("pins nothing", "add match=spki:BASE64 or match=sha256:HEX")
    policy = _policy(draft, key, line.origin)
    return PolicyLine(key, policy, tuple(draft.names), draft.until, draft.owner, draft.reason)


def _policy(draft: _Draft, key: str, origin: Origin) -> Policy:
    rule = f"{key} {draft.level.value}" if key else draft.level.value
    return Policy(
        draft.level,
        origin,
        pins=PinSet(frozenset(draft.certificates), frozenset(draft.keys)),
        anchors=tuple(draft.anchors) or None,  # None = the system's; a tafile holds at least one
        min_version=draft.min_version,
        ciphers=draft.ciphers,
        why=f"{origin} ({rule})",
    )


def _logical_lines(files: ControlFiles) -> list[Line]:
    found: list[Line] = []
    for line in files.lines("tlspolicy") or ():
        stripped = line.text.strip()
        if stripped.startswith("#"):
            continue
        if not line.text[0].isspace():
            found.append(Line(stripped.replace("\t", " "), line.origin))
        elif found:
            found[-1] = replace(found[-1], text=f"{found[-1].text} {stripped}")
        else:
            files.problem(line.origin, "begins with a blank but continues nothing", "begin the line with a domain")
    return found


def _words(text: str) -> Iterator[tuple[str, str | None]]:
    """name=value pairs and bare words (value None); values may stand in double quotes."""
    position = _GAP.match(text).end()  # type: ignore[union-attr]
    while position < len(text):
        found = _WORD.match(text, position)
        if found is None:
            raise BadValueError(f"{quote(text[position:])} is not understood", "write attributes as name=value")
        value = found[2]
        yield found[1], value.strip('"') if value is not None else None
        position = _GAP.match(text, found.end()).end()  # type: ignore[union-attr]


def _key(text: str) -> str:
    if not text.startswith("["):
        if ":" in text:
            raise BadValueError(f"{quote(text)} is no key", "write [host]:port for a relay of smtproutes")
        return domain_or_parent(text)
    name, port = host_and_port(text, 0)
    return f"[{name}]:{port}" if port else f"[{name}]"


def _level(word: tuple[str, str | None]) -> Level:
    name, value = word
    level = LEVELS.get(name.lower()) if value is None else None
    if level is not None:
        return level
    if name.lower() in LATER_LEVELS and value is None:
        raise BadValueError(f"the level {name} is not supported by this version", LEVEL_MEND)
    raise BadValueError(f"{quote(name)} is no level", LEVEL_MEND)


def _check_attribute(level: Level, name: str, value: str | None, *, repeated: bool) -> None:
    if not value:
        raise BadValueError(f"{quote(name)} has no value", "write attributes as name=value")
    if name not in _KNOWN:
        mend = "remove it if the rule is strong enough without it, else remove the line"
        raise BadValueError(f"the attribute {quote(name)} is not supported by this version", mend)
    if name not in _ALLOWED[level]:
        mend = "remove it, or take a level that uses it: verify or secure for match= and tafile=, pin for match="
        raise BadValueError(f"{name}= means nothing at level {level.value}", mend)
    if repeated and name not in _REPEATABLE:
        raise BadValueError(f"{name}= is there twice", "write it once")


def _read_match(files: ControlFiles, draft: _Draft, value: str) -> None:
    pin = draft.level is Level.PIN
    # As in Postfix: digests hold colons, so "|" is between them; names are parted by ":".
    for word in value.split("|") if pin else re.split("[:|]", value):
        if pin:
            _add_pin(draft, word)
        else:
            draft.names.append(_match_name(word))


def _add_pin(draft: _Draft, word: str) -> None:
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


def _read_tafile(files: ControlFiles, draft: _Draft, value: str) -> None:
    path = files.control / value  # an absolute path stays as it is
    try:
        found = read_regular(path)
        if found is None:
            raise BadValueError(
                "does not exist", "write the path of a PEM file, from the control directory or absolute"
            )
        draft.anchors += load_certificates(Content(found[0], found[1], path, Origin(value)))
    except BadValueError as bad:
        raise BadValueError(f"tafile {quote(value)}: {bad.what}", bad.mend) from bad


def _read_protocols(files: ControlFiles, draft: _Draft, value: str) -> None:
    draft.min_version = min_version(value)


def min_version(value: str) -> str:
    """The oldest version that Postfix's `protocols=` lets through, "" for our floor.

    Raises BadValueError for a list that does not end in the newest version.
    """
    allowed = set(_MAY_OF_VERSIONS)
    chosen: set[str] = set()
    for word in re.split("[:;]", value):
        sign = word[: 2 if word.startswith((">=", "<=")) else 1 if word.startswith("!") else 0]
        version = next((v for v in _MAY_OF_VERSIONS if v.lower() == word[len(sign) :].lower()), None)
        if version is None:
            raise BadValueError(f"{quote(word)} is no protocol version", "write protocols=>=TLSv1.2 or >=TLSv1.3")
        place = _MAY_OF_VERSIONS.index(version)
        match sign:
            case ">=":
                allowed -= set(_MAY_OF_VERSIONS[:place])
            case "<=":
                allowed -= set(_MAY_OF_VERSIONS[place + 1 :])
            case "!":
                allowed.discard(version)
            case _:
                chosen.add(version)
    usable = (allowed & chosen if chosen else allowed) & {"TLSv1.2", "TLSv1.3"}
    if "TLSv1.3" not in usable:
        mend = "write protocols=>=TLSv1.2 or >=TLSv1.3"
        raise BadValueError(f"protocols={value} leaves TLSv1.3 out, which is not supported", mend)
    return "" if _FLOOR in usable else "TLSv1.3"


def _read_ciphers(files: ControlFiles, draft: _Draft, value: str) -> None:
    grade = CIPHER_GRADES.get(value.lower())
    if grade is None:
        raise BadValueError(f"the cipher grade {quote(value)} is not supported", "write medium or high")
    draft.ciphers = grade


def _read_until(files: ControlFiles, draft: _Draft, value: str) -> None:
    try:
        draft.until = date.fromisoformat(value)
    except ValueError:
        raise BadValueError(f"{quote(value)} is no date", "write until=2027-01-31") from None


def _read_owner(files: ControlFiles, draft: _Draft, value: str) -> None:
    draft.owner = value


def _read_reason(files: ControlFiles, draft: _Draft, value: str) -> None:
    draft.reason = value


_ATTRIBUTES = {
    "match": _read_match,
    "tafile": _read_tafile,
    "protocols": _read_protocols,
    "ciphers": _read_ciphers,
    "until": _read_until,
    "owner": _read_owner,
    "reason": _read_reason,
}
