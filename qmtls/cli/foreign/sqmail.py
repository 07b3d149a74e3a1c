"""s/qmail's `tlsdestinations` and `domaincerts`, with the rest of its control directory as qmail's.

    [mark]destination:cafile-or-=fingerprint|ciphers|verifydepth;port|sender's domain

Marks: `!` never TLS, `%` pinned fingerprint, `=` certificate for the host's name, `~` the same with wildcards, none:
verified up to the CA file without a name, `-` any certificate. `*` stands for all destinations, `*` and `-` alone are
opportunistic. Of several lines s/qmail takes the first mark that matches, in the order ! % = ~ none -; each but % and =
also by `.parent`. Newer versions write depth and port before the ciphers: which is which is seen by what stands there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qmtls.cli.foreign.demand import demand_of
from qmtls.cli.foreign.mapping import NO_DEFAULT, Fate, Report, Row, Written
from qmtls.cli.foreign.postfix_files import read_text
from qmtls.cli.foreign.qmail import import_qmail
from qmtls.control.lists import BadValueError, ControlFiles
from qmtls.control.lists import Line as ControlLine
from qmtls.control.policies import parse_line
from qmtls.tls.names import canonical, is_host_name
from qmtls.tls.policy import Origin

DESTINATIONS = "tlsdestinations"
CERTIFICATES = "domaincerts"
ROUTES = "smtproutes"
RANK = "!%=~+-"  # which mark is looked up first; "+" stands here for no mark
_DEPTH_AND_PORT = re.compile(r"([0-9]*)(?:;(s?[0-9]*))?\Z")
_GENERAL = {"=*": "=", "~*": "~", "+*": "+", "-*": "-"}
_KINDS = {32: "MD5", 40: "SHA-1", 56: "SHA-224", 96: "SHA-384", 128: "SHA-512"}


class NotCarried(Exception):
    """A line that has no form here; str() is the sentence with its mend."""


@dataclass(frozen=True, slots=True)
class Destination:
    """One line. `mark` one of RANK; `key` "" for all destinations; `optional`: TLS only where it is offered."""

    origin: Origin
    text: str
    mark: str
    key: str
    authority: str = ""
    ciphers: str = ""
    port: str = ""
    sender: str = ""
    optional: bool = False

    def before(self) -> str:
        """What s/qmail does."""
        if self.optional:
            return "TLS if the host offers it, " + ("a verified certificate" if self.mark == "+" else "any certificate")
        trust = f"by {self.authority}" if self.authority else "by anybody: no CA file is named"
        return {
            "!": "plaintext",
            "%": "TLS and the pinned certificate",
            "=": f"TLS and a certificate for the host's name {trust}",
            "~": f"TLS and a certificate for the host's name, wildcards too, {trust}",
            "+": f"TLS and any certificate {trust}",
            "-": "TLS, whatever certificate",
        }[self.mark]


def import_sqmail(paths: list[Path], control: Path) -> Report:
    """Directories, and single files: one whose name begins with `domaincerts` is that, others `tlsdestinations`."""
    report = Report()
    files = ControlFiles(control)
    for path in paths:
        if path.is_dir():
            inner = import_qmail(path, frozenset({DESTINATIONS, CERTIFICATES, ROUTES}))
            report.rows += inner.rows
            report.copies |= inner.copies
            known = [path / name for name in (DESTINATIONS, CERTIFICATES, ROUTES) if (path / name).exists()]
            if not (path / DESTINATIONS).exists():
                report.carry(
                    Origin(str(path / DESTINATIONS)),
                    "(no such file)",
                    [Written("tlsdefault", "none", "tlsdefault")],
                    "no TLS at all",
                )
        else:
            known = [path]
        for one in known:
            if one.name.startswith(CERTIFICATES):
                _certificates(one, report)
            elif one.name == ROUTES:
                _routes(one, report)
            else:
                _destinations(one, files, report)
    return report


# ------------------------------------------------------------ tlsdestinations


def _destinations(path: Path, files: ControlFiles, report: Report) -> None:
    found = list(_read(path, report))
    best: dict[str, Destination] = {}
    for line in found:
        other = best.get(line.key)
        if other is None or _rank(line) < _rank(other):
            best[line.key] = line
    for line in found:
        if best[line.key] is not line:
            report.idle(line.origin, line.text, f"s/qmail takes {best[line.key].origin} for the same destination")
            continue
        try:
            report.rows.append(_row(line, files))
        except NotCarried as problem:
            if line.key and line.mark != "!":
                report.hold(line.origin, line.text, str(problem), line.before(), line.key)
            else:
                less = f"; {NO_DEFAULT}" if not line.optional and line.mark != "!" else ""
                report.refuse(line.origin, line.text, f"{problem}{less}", line.before())


def _rank(line: Destination) -> tuple[bool, int]:
    return line.optional, RANK.index(line.mark)


def _lines(path: Path) -> Iterator[tuple[Origin, str]]:
    """Those that are neither empty nor comments."""
    for number, raw in enumerate(read_text(path).splitlines(), 1):
        text = raw.strip()
        if text and not text.startswith("#"):
            yield Origin(str(path), number), text


def _read(path: Path, report: Report) -> Iterator[Destination]:
    for origin, line in _lines(path):
        text = line.split(" #", 1)[0].strip()
        dest, colon, rest = text.partition(":")
        try:
            if not colon:
                raise NotCarried("it has no colon; mend the line")
            yield _destination(origin, text, dest.strip().lower(), rest)
        except NotCarried as problem:
            report.refuse(origin, text, str(problem))


def _destination(origin: Origin, text: str, dest: str, rest: str) -> Destination:
    if dest in ("*", "-"):
        mark, key, optional = ("+" if dest == "*" else "-"), "", True
    elif dest in _GENERAL:
        mark, key, optional = _GENERAL[dest], "", False
    else:
        mark = dest[0] if dest[:1] in ("!", "%", "=", "~", "-") else "+"
        key, optional = canonical(dest[1:] if mark != "+" else dest), False
        if not key and mark == "!":
            raise NotCarried("it switches TLS off for everybody; write none into control/tlsdefault if you mean it")
        if not is_host_name(key.removeprefix(".")):
            raise NotCarried(f"{key!r} is no destination; mend the line")
    authority, ciphers, port, sender = _fields(rest)
    return Destination(origin, text, mark, key, authority, ciphers, port, sender, optional)


def _fields(rest: str) -> tuple[str, str, str, str]:
    """authority, ciphers, port, sender's domain; a short form has ";port" alone."""
    if rest.startswith(";"):
        return "", "", rest[1:], ""
    parts = [part.strip() for part in rest.split("|")] + [""] * 3
    middle = [part for part in parts[1:3] if part]
    depth = next((part for part in middle if _DEPTH_AND_PORT.match(part)), "")
    ciphers = next((part for part in middle if part is not depth), "")
    found = _DEPTH_AND_PORT.match(depth)
    return parts[0], ciphers, (found[2] if found else "") or "", parts[3]


def _row(line: Destination, files: ControlFiles) -> Row:
    words, problem = _words(line)
    file = "tlspolicy" if line.key else "tlsdefault"
    try:
        policy = parse_line(files, line.key, ControlLine(" ".join(words), files.origin(file))).policy
    except BadValueError as bad:
        raise NotCarried(f"{bad.what}; {bad.mend}") from None
    text = " ".join([line.key, *words] if line.key else words)
    written = (Written(file, text, line.key or file),)
    after = "a certificate for the MX host's own name" if policy.level.value == "verify" else str(demand_of(policy))
    fate = Fate.CHANGED if problem else Fate.SAME
    return Row(line.origin, line.text, fate, line.before(), after, written, problem)


def _words(line: Destination) -> tuple[list[str], str]:
    """Level and attributes; and in which way they are stricter than the line, "" if they are not. NotCarried."""
    if line.sender:
        raise NotCarried(
            f"it holds for mail from {line.sender} only; rules go by the recipient here: write one for all"
        )
    if line.port and line.mark != "!":
        raise NotCarried(_port(line))
    if line.mark == "!":
        return ["none"], ""
    if line.mark == "%":
        return ["pin", f"match=sha256:{_fingerprint(line)}"], ""
    extra = [f"exclude={':'.join(excluded)}"] if (excluded := _excluded(line)) else []
    if line.optional:
        if line.mark == "+":
            raise NotCarried("TLS that may be missing, but not be unverified, has no like here; choose may or verify")
        return ["may", *extra], ""
    if line.mark == "-" or (line.mark == "+" and not line.authority):
        return ["encrypt", *extra], ""
    words = ["verify", *([f"tafile={_authority(line)}"] if line.authority else []), *extra]
    problems = []
    if line.mark == "+":
        problems.append("a name is asked for here, too: match= can say which")
    if not line.authority:
        problems.append("s/qmail verifies nothing without a CA file; here the system's authorities must have issued it")
    return words, "; ".join(problems)


def _fingerprint(line: Destination) -> str:
    digits = line.authority.removeprefix("=").replace(":", "").lower()
    if len(digits) == 64 and all(c in "0123456789abcdef" for c in digits):
        return digits
    kind = _KINDS.get(len(digits), "of no known kind")
    raise NotCarried(
        f"its fingerprint is {kind}, from which no SHA-256 can be had; ask the peer for the SHA-256 fingerprint, or"
        f" compare what `qmtls probe` shows, and write into control/tlspolicy: {line.key} pin match=sha256:HEX"
    )


def _authority(line: Destination) -> str:
    if line.authority.endswith("/") or Path(line.authority).is_dir():
        raise NotCarried(
            f"{line.authority} is a directory; put its certificates into one file, and name that by tafile="
        )
    if not line.authority.startswith("/"):
        raise NotCarried(f"{line.authority} is no absolute path; write one")
    return line.authority


def _excluded(line: Destination) -> list[str]:
    """Of an OpenSSL list only what is taken away has a form here: what is let in is never less than our own list."""
    words = [word for word in re.split(r"[:,\s]+", line.ciphers) if word]
    wanted = [word for word in words if word[0] not in "!-+@" and word not in ("HIGH", "MEDIUM", "ALL", "DEFAULT")]
    if wanted:
        raise NotCarried(f"ciphers {line.ciphers} have no like here for one destination; see control/tlsclientciphers")
    gone = ("SSLv2", "SSLv3", "aNULL", "eNULL")  # nobody here has them
    return [word[1:] for word in words if word[0] == "!" and word[1:] not in gone]


def _port(line: Destination) -> str:
    number = line.port.removeprefix("s")
    if number == "6209":
        return "QMTPS is not spoken here; write the line without the port, for SMTP"
    scheme = "smtps:" if number == "465" or line.port.startswith("s") else ""
    return (
        f"a port is a matter of routes here: write {line.key}:{scheme}HOST:{number} into control/smtproutes, and the"
        f" line without the port for [HOST]:{number}"
    )


# ------------------------------------------------------------ smtproutes


def _routes(path: Path, report: Report) -> None:
    """domain:relay;port|user|password; qmail's own form has a colon before the port."""
    for origin, text in _lines(path):
        route, login, _ = text.partition("|")
        domain, colon, relay = route.partition(":")
        shown = f"{route}|(user and password)" if login else route
        before = f"to {relay or 'the MX hosts of the domain'}"
        if not colon or domain == "!@":
            problem = "routes go by the recipient here, reports too" if colon else "it has no colon; mend the line"
            report.refuse(origin, shown, problem, before)
        elif login:
            problem = f"write {domain}:{relay.replace(';', ':')} into control/smtproutes, and the login into authroutes"
            report.refuse(origin, shown, problem, before)
        else:
            line = Written(ROUTES, f"{domain}:{relay.replace(';', ':')}", f"{domain}:")
            report.carry(origin, shown, [line], before)


# ------------------------------------------------------------ domaincerts


def _certificates(path: Path, report: Report) -> None:
    """sender's domain:certificate|key|password. Ours go by the next hop; only the one for all has a place."""
    for origin, text in _lines(path):
        domain, _, rest = text.partition(":")
        certificate, key, password = (*(part.strip() for part in rest.split("|")), "", "", "")[:3]
        shown = f"{domain}:{certificate}|{key}" + ("|(password)" if password else "")
        before = f"shows {certificate} for mail from {domain if domain != '*' else 'everybody'}"
        if domain != "*":
            problem = (
                "certificates go by the next hop here, not by the sender: put it into control/clientcerts/NEXTHOP.pem"
            )
            report.refuse(origin, shown, problem, before)
        elif password or (key and key != certificate):
            problem = (
                "write key (without password), certificate and chain into one file, control/clientcert.pem, mode 0600"
            )
            report.refuse(origin, shown, problem, before)
        else:
            report.copies["clientcert.pem"] = certificate
            after = "the same; copied to control/clientcert.pem"
            report.rows.append(Row(origin, shown, Fate.SAME, before, after))
