"""`tlspolicy` and `tlsdefault`: Postfix's TLS policy table in qmtls's form.

    DOMAIN LEVEL [attribute=value]...

Levels and attributes mean what they mean in Postfix; each is supported, or refused by name with file and line. Nothing
is ever passed over: a line that asks for something unknown might else be taken for a weaker one. As in Postfix a line
that begins with a blank continues the one before it, and `{name = value}` may hold blanks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from qmtls.control.lists import BadValueError, ControlFiles, Line, quote
from qmtls.control.tlsattributes import READERS, Draft, check_attribute, check_whole
from qmtls.control.values import domain_or_parent, host_and_port
from qmtls.tls.policy import Level, Origin, PinSet, Policy, PolicyLine

LEVELS = {level.value: level for level in Level} | {"fingerprint": Level.PIN}
LEVEL_MEND = "write none, may, encrypt, dane, dane-only, verify, secure, sts or pin"

# A default that asks for its own evidence is not overtaken by what else is found: the others are.
_OVERTAKEN = frozenset({Level.NONE, Level.MAY, Level.ENCRYPT, Level.DANE, Level.VERIFY, Level.SECURE})
_WORD = re.compile(
    r"""\{\s*(?P<braced>[^\s={}]+)\s*=\s*(?P<inner>[^{}]*?)\s*\}(?=[\s,]|\Z)
    |(?P<name>[^\s,="{}]+)(?:=(?P<value>"[^"]*"|[^\s,"{}]*))?(?=[\s,]|\Z)""",
    re.VERBOSE,
)
_GAP = re.compile(r"[\s,]*")


def read_policy_lines(files: ControlFiles) -> dict[str, PolicyLine]:
    """The lines of `tlspolicy` by key. A key that is there twice is a problem."""
    found: dict[str, PolicyLine] = {}
    for line in _logical_lines(files):
        try:
            key, _, rest = line.text.partition(" ")
            key = _key(key)
            if key in found:
                first = found[key].policy.origin
                raise BadValueError(f"{key} has a line already, {first}", "write one line for each name")
            found[key] = parse_line(files, key, Line(rest, line.origin))
        except BadValueError as bad:
            files.problem(line.origin, bad.what, bad.mend)
    return found


def read_default(files: ControlFiles) -> PolicyLine:
    """`tlsdefault`: a level with attributes, as behind the domain of a `tlspolicy` line. Missing = dane."""
    line = files.first_line("tlsdefault")
    found = None
    if line is not None:
        with files.collecting(line.origin):
            found = parse_line(files, "", line)
    if found is None:
        missing = Policy(Level.DANE, files.origin("tlsdefault"), why="no rule (the default, dane)")
        found = PolicyLine("", missing)
    if found.policy.level in _OVERTAKEN:
        found = replace(found, policy=replace(found.policy, discovers=True))
    return found


def parse_line(files: ControlFiles, key: str, line: Line) -> PolicyLine:
    """LEVEL and attributes for `key` ("" for tlsdefault). Raises BadValueError."""
    words = list(_words(line.text))
    if not words:
        raise BadValueError("names no level", LEVEL_MEND)
    level = _level(words[0])
    if level is Level.STS and key.startswith("["):
        raise BadValueError("sts asks for the policy of a domain, and this is a relay", "write the domain's name")
    draft = Draft(level)
    seen = set()
    for written, value in words[1:]:
        name = written.lower()
        check_attribute(level, name, value, repeated=name in seen)
        seen.add(name)
        READERS[name](files, draft, value or "")
    check_whole(draft)
    if draft.until is not None and not key:
        raise BadValueError("until= means nothing here: there is no rule behind the default", "remove it")
    policy = _policy(draft, key, line.origin)
    return PolicyLine(key, policy, tuple(draft.names), draft.until, draft.owner, draft.reason)


_NO_PINS = PinSet()


def _policy(draft: Draft, key: str, origin: Origin) -> Policy:
    rule = f"{key} {draft.level.value}" if key else draft.level.value
    pinned = draft.certificates or draft.keys
    return Policy(
        draft.level,
        origin,
        pins=PinSet(frozenset(draft.certificates), frozenset(draft.keys)) if pinned else _NO_PINS,
        anchors=tuple(draft.anchors) or None,  # None = the system's; a tafile holds at least one
        min_version=draft.min_version,
        max_version=draft.max_version,
        ciphers=draft.ciphers,
        exclude=draft.exclude,
        groups=draft.groups,
        pq=draft.pq,
        server_name=draft.server_name,
        reuse=draft.reuse,
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
    """name=value pairs and bare words (value None); values may stand in double quotes, pairs in braces."""
    position = _GAP.match(text).end()  # type: ignore[union-attr]
    while position < len(text):
        found = _WORD.match(text, position)
        if found is None:
            raise BadValueError(f"{quote(text[position:])} is not understood", "write attributes as name=value")
        if found["braced"]:
            yield found["braced"], found["inner"]
        else:
            value = found["value"]
            yield found["name"], value.strip('"') if value is not None else None
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
    if name.lower() == "half-dane" and value is None:
        what = "half-dane is what Postfix logs of a level, not one to write"
        raise BadValueError(what, "write dane, or dane-only to demand signed MX records too")
    raise BadValueError(f"{quote(name)} is no level", LEVEL_MEND)
