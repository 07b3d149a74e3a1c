"""Lines of Postfix's TLS policy tables, and its default level, as lines of `tlspolicy` and `tlsdefault`.

A parameter of main.cf that decides for many lines (authorities, match lists, protocols) is written into each line that
it decides for. What cannot be said in our form is refused line by line, with what to do instead; where TLS was demanded
mail then waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from qmtls.cli.foreign.demand import VERSIONS, demand_of
from qmtls.cli.foreign.mapping import NO_DEFAULT, Fate, Report, Row, Written
from qmtls.cli.foreign.postfix_files import Entry
from qmtls.cli.foreign.postfix_model import (
    DIGEST_LENGTHS,
    MANDATORY,
    SMTP_TRANSPORTS,
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
from qmtls.lookup import parents
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
    begin = len(report.rows)
    meant: dict[str, list[Entry]] = {}  # lines that are one line here: "[host]" and "[host]:25"
    for entry in entries:
        if postfix.policies.get(entry.key) is not entry:
            first = postfix.policies[entry.key].origin
            report.idle(entry.origin, entry.text, f"Postfix uses the first line for this key only, {first}")
        elif unused := _unused(postfix, entry):
            report.idle(entry.origin, entry.text, unused)
        else:
            try:
                meant.setdefault(control_key(entry.key), []).append(entry)
            except NotCarried as problem:
                report.refuse(entry.origin, entry.text, str(problem), _before(postfix, entry)[0])
    for key, same in meant.items():
        if len(same) > 1:
            _refuse_all(postfix, key, same, report)
            continue
        try:
            report.rows.append(_row(postfix, same[0], key, files))
        except (BadPolicy, NotCarried) as problem:
            _refuse(postfix, same[0], key, str(problem), report)
    place = {entry.origin: number for number, entry in enumerate(entries)}
    report.rows[begin:] = sorted(report.rows[begin:], key=lambda row: place[row.origin])
    _import_for_routes(postfix, {key: same[0] for key, same in meant.items()}, files, report)


def _import_for_routes(postfix: Postfix, carried: Mapping[str, Entry], files: ControlFiles, report: Report) -> None:
    """A line for each domain with a transport, where Postfix and our lines would not come to the same one.

    Postfix asks for the next hop alone; here the domain's lines, those of its parents too, come before the relay's.
    """
    for transport in postfix.transports.values():
        domain = _example(transport.key)
        if not is_host_name(domain) or postfix.route(domain)[0] not in SMTP_TRANSPORTS:
            continue
        nexthop = postfix.route(domain)[1]
        server = read_server(nexthop)
        keys = [
            domain,
            *parents(domain),
            *([f"[{canonical(server.host)}]:{server.port}"] if server is not None else ()),
        ]
        ours = next((carried[key] for key in keys if key in carried), None)
        theirs = postfix.policy_of(nexthop)
        if ours is theirs or (theirs is None and not postfix.main.known):
            continue
        key = canonical(transport.key)
        value = theirs.value if theirs is not None else postfix.default_level()
        entry = Entry(transport.origin, f"{transport.text} (its policy: {value})", key, value)
        try:
            report.rows.append(_row(postfix, entry, key, files))
        except (BadPolicy, NotCarried) as problem:
            _refuse(postfix, entry, key, str(problem), report)


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
        less = f"; {NO_DEFAULT}" if line.level in MANDATORY else ""
        report.refuse(origin, text, f"{problem}{less}")
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


def _refuse_all(postfix: Postfix, key: str, entries: Sequence[Entry], report: Report) -> None:
    """One of them may be carried by hand; nobody but the owner of the table knows which."""
    held = False
    for entry in entries:
        before, demands = _before(postfix, entry)
        others = ", ".join(str(other.origin) for other in entries if other is not entry)
        problem = f"{others} is for the same relay, and {key} can have one line only; write one of them by hand"
        if demands and not held:
            report.hold(entry.origin, entry.text, problem, before, key)
            held = True
        else:
            report.refuse(entry.origin, entry.text, problem, before)


def _refuse(postfix: Postfix, entry: Entry, key: str, problem: str, report: Report) -> None:
    before, demands = _before(postfix, entry)
    if demands:
        report.hold(entry.origin, entry.text, problem, before, key)
    else:
        report.refuse(entry.origin, entry.text, problem, before)


def _before(postfix: Postfix, entry: Entry) -> tuple[str, bool]:
    """The decision in words, and whether it lets nothing go without TLS."""
    try:
        line = read_line(entry.value)
        return str(postfix.demand(line, _host(entry.key), _example(entry.key))), line.level in MANDATORY
    except BadPolicy as bad:
        return f"mail waits: {bad}", True


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
    if entry.key.startswith("["):
        return _misspelt(postfix, entry.key)
    if not is_host_name(entry.key.removeprefix(".")):
        return ""
    _, nexthop = postfix.route(_example(entry.key))
    if read_server(nexthop) is None:
        return ""
    return f"Postfix looks up {nexthop}, where it sends that mail to, and never this line; not carried"


def _misspelt(postfix: Postfix, key: str) -> str:
    """ "[host]:25" is not found for mail that goes to "[host]": Postfix compares word for word."""
    nexthops = {entry.value.partition(":")[2].strip().lower() for entry in postfix.transports.values()}
    nexthops.add(postfix.main.get("relayhost").lower())
    same = sorted(hop for hop in nexthops if read_server(hop) == read_server(key))
    if not same or key in nexthops:
        return ""
    return f"Postfix looks up {same[0]}, word for word, and never finds this line; not carried"
