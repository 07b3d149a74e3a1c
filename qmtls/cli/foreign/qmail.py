"""A control directory of qmail's, with or without the TLS patch: it works as it is, so it is checked and copied.

Files that are read here are copied octet for octet; the others are named with what stands for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qmtls.cli.foreign.mapping import Fate, Report, Row
from qmtls.cli.home import why
from qmtls.cli.output import USAGE, CommandError
from qmtls.control.describe import describe
from qmtls.control.findings import FindingLevel
from qmtls.control.settings import ControlError, Settings
from qmtls.tls.policy import Origin

SAME = frozenset(
    {
        *("me", "smtpgreeting", "helohost", "localiphost", "locals", "rcpthosts", "morercpthosts", "badmailfrom"),
        *(
            "databytes",
            "timeoutsmtpd",
            "timeoutremote",
            "timeoutconnect",
            "smtproutes",
            "virtualdomains",
            "percenthack",
        ),
        *("envnoathost", "concurrencyremote", "concurrencylocal", "queuelifetime", "bouncefrom", "bouncehost"),
        *("doublebounceto", "doublebouncehost", "servercert.pem", "clientcert.pem", "clientca.pem", "clientcrl.pem"),
        *("tlsclients", "tlsserverciphers", "tlsclientciphers"),
        # of a directory that was moved here already
        *(
            "aliases",
            "authroutes",
            "bouncestyle",
            "delaywarn",
            "dnsserver",
            "limits",
            "listen",
            "policylifetime",
            "policyretest",
            "relaynetworks",
            "tlsdefault",
            "tlspolicy",
            "tlssenders",
            "users",
        ),
    }
)
DIRECTORIES = ("tlshosts", "notlshosts")

_INJECT = "qmtls sendmail completes addresses with control/me; write whole addresses"
_NEEDLESS = {
    "defaultdomain": _INJECT,
    "defaulthost": _INJECT,
    "plusdomain": _INJECT,
    "idhost": "Message-ID has control/me in it",
    "qmqpservers": "there is no QMQP; let its clients speak SMTP, with a certificate",
    "rsa512.pem": "keys of the past; nothing to do",
    "rsa1024.pem": "keys of the past; nothing to do",
    "rsa2048.pem": "keys of the past; nothing to do",
    "dh512.pem": "keys of the past; nothing to do",
    "dh1024.pem": "keys of the past; nothing to do",
    "dh2048.pem": "keys of the past; nothing to do",
    "morercpthosts.cdb": "morercpthosts is read as text",
}
_CHANGED = {
    "concurrencyremote": "here it counts the connections to one next hop, not all",
    "morercpthosts": "here it is read as text, without qmail-newmrh",
}


def import_qmail(directory: Path, known: frozenset[str] = frozenset()) -> Report:
    """Rows for each file of the directory. `known`: files that another importer turns into lines."""
    report = Report()
    for name, path in _files(directory):
        origin, text = Origin(str(path)), f"{name}"
        if name in known:
            continue
        if name in SAME or _is_pin(name) or name.partition("/")[0] in DIRECTORIES:
            after = f"the same; {_CHANGED[name]}" if name in _CHANGED else "the same"
            report.copies[name] = str(path)
            report.rows.append(Row(origin, text, Fate.SAME, "read as it is", f"{after}; copied"))
        elif name in _NEEDLESS:
            report.idle(origin, text, _NEEDLESS[name])
        else:
            problem = "this file is not known here; docs/migrating-from-qmail.md says what stands for what"
            report.refuse(origin, text, problem)
    if "rcpthosts" not in report.copies:
        origin, problem = Origin(str(directory / "rcpthosts")), "whom it should relay for must be named: rcpthosts"
        before, after = "everything is relayed, for everybody", "mail for me and locals is taken, nothing else"
        report.rows.append(Row(origin, "(no such file)", Fate.CHANGED, before, after, problem=problem))
    if "me" not in report.copies:
        report.refuse(Origin(str(directory / "me")), "me", "is missing: write this host's full name into it")
    return report


def checked(compiled: Settings | ControlError, report: Report, now: float) -> None:
    """What `qmtls check` says of the directory, as findings: errors and warnings."""
    for finding in describe(compiled, now):
        if finding.level is not FindingLevel.NOTE:
            report.rows.append(Row(finding.origin, finding.level.value, Fate.CHANGED, problem=finding.text))


def _files(directory: Path) -> Iterator[tuple[str, Path]]:
    if not directory.is_dir():
        raise CommandError(f"{directory}: is no directory; name qmail's control directory", USAGE)
    try:
        for path in sorted(directory.iterdir()):
            if path.name.startswith(".") or path.name.endswith("~"):
                continue
            if path.is_dir() and path.name in DIRECTORIES:
                yield from ((f"{path.name}/{one.name}", one) for one in sorted(path.iterdir()) if one.name[0] != ".")
            elif not path.is_dir():
                yield path.name, path
    except OSError as problem:
        raise CommandError(f"{directory}: {why(problem)}", USAGE) from None


def _is_pin(name: str) -> bool:
    return name.endswith(".pem") and name not in _NEEDLESS
