"""Lines of Postfix's TLS policy tables, and its default level, as lines of `tlspolicy` and `tlsdefault`.

A parameter of main.cf that decides for many lines (authorities, match lists, protocols) is written into each line that
it decides for. What cannot be said in our form is refused line by line, with what to do instead; where TLS was demanded
mail then waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qmtls.cli.foreign.demand import VERSIONS, demand_of
from qmtls.cli.foreign.mapping import Fate, Report, Row, Written
from qmtls.cli.foreign.postfix_files import Entry
from qmtls.cli.foreign.postfix_model import (
    DIGEST_LENGTHS,
    MANDATORY,
    BadPolicy,
    Line,
    Postfix,
    allowed_versions,
    read_line,
    read_server,
)
from qmtls.control.lists import BadValueError, ControlFiles
from qmtls.control.lists import Line as ControlLine
from qmtls.control.policies import parse_line
from qmtls.tls.names import canonical, is_host_name
from qmtls.tls.policy import PolicyLine, with_names

POLICY = "tlspolicy"
DEFAULT = "tlsdefault"
_ALGORITHMS = {length: name for name, length in DIGEST_LENGTHS.items()}
_SHOWN = {"md5": "MD5", "sha1": "SHA-1"}


class NotCarried(Exception):
    """A line that has no form here; str() is the sentence with its mend."""


def import_policies(postfix: Postfix, entries: Sequence[Entry], files: ControlFiles, report: Report) -> None:
    """A row for each line of the tables, in order."""
    written: dict[str, Entry] = {}
    for entry in entries:
        if postfix.policies.get(entry.key) is not entry:
            first = postfix.policies[entry.key].origin
            report.idle(entry.origin, entry.text, f"Postfix uses the first line for this key only, {first}")
            continue
        unused = _unused(postfix, entry)
        if unused:
            report.idle(entry.origin, entry.text, unused)
            continue
        try:
            key = control_key(entry.key)
            other = written.setdefault(key, entry)
            if other is not entry:
                raise NotCarried(f"{key} has a line already, made of {other.origin}; write one of the two by hand")
            report.rows.append(_row(postfix, entry, key, files))
        except (BadPolicy, NotCarried) as problem:
            _refuse(postfix, entry, str(problem), report)


def import_default(postfix: Postfix, files: ControlFiles, report: Report) -> None:
    """smtp_tls_security_level; nothing without main.cf."""
    if not postfix.main.known:
        return
    name = "smtp_tls_security_level"
    given = name in postfix.main.values
    origin = postfix.main.origin(name) if given else files.origin("main.cf")
    text = f"{name} = {postfix.main.get(name)}" if given else f"{name} is not set"
    line = Line(postfix.default_level())
    try:
        words = control_words(postfix, line)
        _parsed(files, "", words)
    except (NotCarried, BadPolicy) as problem:
        report.refuse(origin, text, str(problem))
        return
    before = str(postfix.demand(line, "the host", "the recipient's domain"))
    after = "the same; DANE and MTA-STS come before it, where a domain has them"
    report.carry(origin, text, [Written(DEFAULT, " ".join(words), DEFAULT)], before, after)


def control_key(key: str) -> str:
    """The key of a table line as ours; NotCarried if there is no such thing here."""
    if is_host_name(canonical(key.removeprefix("."))):
        return canonical(key)
    server = read_server(key)
    if server is not None:
        return f"[{canonical(server.host)}]:{server.port}"
    if key.startswith("/"):
        raise NotCarried("a pattern is no key here; write one line for each domain, or .parent for those below one")
    if ":" in key:
        raise NotCarried(
            "a next hop with a port and without brackets has no like here; write [host]:port, with a route"
        )
    raise NotCarried(f"{key!r} is neither a domain nor [host]:port")


def control_words(postfix: Postfix, line: Line) -> list[str]:
    """Level and attributes in our form; NotCarried, BadPolicy."""
    level = postfix.effective_level(line.level) or line.level
    words = [level]
    if level == "none":
        return words
    if level == "fingerprint":
        words.append(f"match={'|'.join(_digests(postfix, line))}")
    if level in ("verify", "secure"):
        words += _names_and_anchors(postfix, line)
    versions = allowed_versions(postfix.protocols(line, level))
    if len(versions) == 1:
        words.append(f"protocols={'>=' if VERSIONS[-1] in versions else '<='}{next(iter(versions))}")
    words += _ciphers(postfix, line, level)
    for name in ("servername", "connection_reuse"):
        value = line.one(name) or (postfix.main.get("smtp_tls_servername") if name == "servername" else "")
        if value:
            words.append(f"{name}={value}")
    return words


def _digests(postfix: Postfix, line: Line) -> list[str]:
    found = postfix.match(line)
    for digest in found:
        algorithm = _ALGORITHMS.get(len(digest.replace(":", "")), "")
        if algorithm == "sha256":
            algorithm = postfix.digest() or algorithm
        if algorithm != "sha256":
            name = _SHOWN.get(algorithm, algorithm.upper() or "of an unknown kind")
            raise NotCarried(
                f"its fingerprints are {name}, from which no SHA-256 can be had; ask the peer for the SHA-256"
                " fingerprint, or compare what `qmtls probe` shows of it, and write: pin match=sha256:HEX"
            )
    if not found:
        raise NotCarried("it names no fingerprint; write: pin match=sha256:HEX")
    return found


def _names_and_anchors(postfix: Postfix, line: Line) -> list[str]:
    words = []
    default = "hostname" if line.level == "verify" else "nexthop:dot-nexthop"
    match = ":".join(postfix.match(line))
    if line.all("match") or match != default:
        words.append(f"match={match}")
    try:
        anchors = postfix.anchor_files(line)
    except BadPolicy as problem:
        raise NotCarried(f"{problem}; put them into one file and name that by tafile=") from None
    for file in anchors or ():
        if not Path(file).is_absolute():
            raise NotCarried(f"tafile={file} is no absolute path; write one")
        words.append(f"tafile={file}")
    return words


def _ciphers(postfix: Postfix, line: Line, level: str) -> list[str]:
    """Grades below medium are medium, as in Postfix 3.8: nothing weaker goes with TLS 1.2."""
    mandatory = level in MANDATORY
    grade = line.one("ciphers") or postfix.main.get("smtp_tls_mandatory_ciphers" if mandatory else "smtp_tls_ciphers")
    words = []
    if grade.lower() == "high" or line.one("ciphers"):
        words.append("ciphers=high" if grade.lower() == "high" else "ciphers=medium")
    exclude = [line.one("exclude") or postfix.main.get("smtp_tls_exclude_ciphers")]
    if mandatory and not line.one("exclude"):
        exclude.append(postfix.main.get("smtp_tls_mandatory_exclude_ciphers"))
    names = [name for text in exclude for name in text.replace(",", " ").replace(":", " ").split()]
    if names:
        words.append(f"exclude={':'.join(names)}")
    return words


# ------------------------------------------------------------ one line, both decisions


def _row(postfix: Postfix, entry: Entry, key: str, files: ControlFiles) -> Row:
    line = read_line(entry.value)
    words = control_words(postfix, line)
    ours = _parsed(files, key, words)
    name = _example(key)
    before = postfix.demand(line, _host(key), name)
    after = demand_of(with_names(ours.policy, ours.match, _host(key), name))
    written = (Written(POLICY, f"{key} {' '.join(words)}", key),)
    if before == after:
        return Row(entry.origin, entry.text, Fate.SAME, str(before), "the same", written)
    problem = "the decisions differ; keep the line if ours is what you want"
    return Row(entry.origin, entry.text, Fate.CHANGED, str(before), str(after), written, problem)


def _parsed(files: ControlFiles, key: str, words: Sequence[str]) -> PolicyLine:
    """As the service will read it; NotCarried in the words of our own parser."""
    try:
        return parse_line(files, key, ControlLine(" ".join(words), files.origin(POLICY if key else DEFAULT)))
    except BadValueError as bad:
        raise NotCarried(f"{bad.what}; {bad.mend}") from None


def _refuse(postfix: Postfix, entry: Entry, problem: str, report: Report) -> None:
    try:
        line = read_line(entry.value)
        before, demands = str(postfix.demand(line, _host(entry.key), _example(entry.key))), line.level in MANDATORY
    except BadPolicy as bad:
        before, demands = f"mail waits: {bad}", True
        problem = f"{bad}; mend the line"
    try:
        key = control_key(entry.key)
    except NotCarried:
        demands = False
    if demands:
        report.hold(entry.origin, entry.text, problem, before, key)
    else:
        report.refuse(entry.origin, entry.text, problem, before)


def _example(key: str) -> str:
    """A next hop that the key is for, as names are compared."""
    server = read_server(key)
    if server is not None:
        return server.host
    return f"any{key}" if key.startswith(".") else key


def _host(key: str) -> str:
    server = read_server(key)
    return server.host if server is not None else "the MX host"


def _unused(postfix: Postfix, entry: Entry) -> str:
    """Why Postfix never looks at this line; "" if it does. Here the domain's own line would come before its relay's."""
    if not is_host_name(entry.key.removeprefix(".")):
        return ""
    _, nexthop = postfix.route(_example(entry.key))
    if read_server(nexthop) is None:
        return ""
    return f"Postfix looks up {nexthop}, where it sends that mail to, and never this line; not carried"
