"""Postfix's files to control lines: which file is what, and the parameters of main.cf that matter for TLS."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qmtls.cli.foreign.mapping import Report, Written
from qmtls.cli.foreign.postfix_files import Entry, Main, is_main, keyed, read_main, read_table, references
from qmtls.cli.foreign.postfix_model import LEVELS, Postfix
from qmtls.cli.foreign.postfix_policies import import_default, import_policies
from qmtls.cli.foreign.postfix_routes import import_clients, import_relayhost, import_routes
from qmtls.cli.output import USAGE, CommandError
from qmtls.control.lists import ControlFiles
from qmtls.tls.names import canonical, is_host_name
from qmtls.wording import counted

_FINGERPRINT = re.compile(r"[0-9A-Fa-f]{2}(:?[0-9A-Fa-f]{2}){15,63}\Z")
_TABLES = {"smtp_tls_policy_maps": "policies", "transport_maps": "transports", "relay_clientcerts": "clients"}

_CREDENTIAL = "put key, certificate and chain into one file, control/clientcert.pem, mode 0600"
# Parameters that are set to something which is not carried, and what to do.
_BY_HAND = {
    "smtp_tls_chain_files": _CREDENTIAL,
    "smtp_tls_cert_file": _CREDENTIAL,
    "smtp_tls_eccert_file": _CREDENTIAL,
    "smtp_tls_per_site": "Postfix replaced it by smtp_tls_policy_maps; write such a table, and import it",
    "smtp_sasl_password_maps": "write relay, user and password into control/authroutes",
    "sender_dependent_relayhost_maps": "routes go by the recipient here; write them into control/smtproutes",
    "sender_dependent_default_transport_maps": "routes go by the recipient here; write them into control/smtproutes",
}
_NEVER = "permit_tls_all_clientcerts"
_READ = frozenset(
    {
        *("smtp_tls_security_level", "relayhost", "myhostname", "smtp_dns_support_level", "compatibility_level"),
        *("smtp_tls_CAfile", "smtp_tls_CApath", "smtp_tls_trust_anchor_file", "tls_append_default_CA"),
        *("smtp_tls_fingerprint_digest", "smtpd_tls_fingerprint_digest", "smtp_tls_servername"),
        *("smtp_tls_verify_cert_match", "smtp_tls_secure_cert_match", "smtp_tls_fingerprint_cert_match"),
        *("smtp_tls_protocols", "smtp_tls_mandatory_protocols", "smtp_tls_ciphers", "smtp_tls_mandatory_ciphers"),
        *("smtp_tls_exclude_ciphers", "smtp_tls_mandatory_exclude_ciphers", *_TABLES),
        *("smtp_use_tls", "smtp_enforce_tls", "smtp_tls_enforce_peername"),
    }
)


@dataclass(slots=True)
class _Input:
    main: Main = field(default_factory=Main)
    policies: list[Entry] = field(default_factory=list)
    transports: list[Entry] = field(default_factory=list)
    clients: list[Entry] = field(default_factory=list)


def import_postfix(paths: Sequence[Path], control: Path) -> tuple[Report, Postfix]:
    """Rows for all lines of the files, and the model that they were read into. CommandError for what is no input."""
    report = Report()
    found = _read(paths, report)
    postfix = Postfix(found.main, keyed(found.policies), keyed(found.transports))
    files = ControlFiles(control)
    _import_main(found.main, control, report)
    import_default(postfix, files, report)
    import_policies(postfix, found.policies, files, report)
    import_routes(postfix, found.transports, report)
    import_relayhost(postfix, report)
    import_clients(postfix, found.clients, report)
    return report, postfix


def _read(paths: Sequence[Path], report: Report) -> _Input:
    found = _Input()
    tables = []
    for path in paths:
        if path.is_dir():
            path = path / "main.cf"
        if is_main(path):
            if found.main.known:
                raise CommandError(f"{path}: {found.main.path} is a main.cf already; give one", USAGE)
            found.main = read_main(path)
        else:
            tables.append(path)
    named = {path.resolve() for path in tables}
    for path in tables:
        entries = read_table(path)
        getattr(found, _role(path, entries)).extend(entries)
    for parameter, role in _TABLES.items():
        _follow(found, parameter, role, named, report)
    return found


def _follow(found: _Input, parameter: str, role: str, named: set[Path], report: Report) -> None:
    """The tables that main.cf names and the command line does not."""
    for reference in references(found.main, parameter):
        if reference.path is not None:
            if not {reference.path.resolve()} & named and reference.path.name not in {path.name for path in named}:
                getattr(found, role).extend(read_table(reference.path))
        elif reference.entries:
            getattr(found, role).extend(reference.entries)
        elif not getattr(found, role):
            report.refuse(found.main.origin(parameter), f"{parameter} = {found.main.get(parameter)}", reference.problem)


def _role(path: Path, entries: Sequence[Entry]) -> str:
    """What kind of table a file is, by what its lines look like."""
    kinds = {kind for entry in entries for kind in _kinds(entry)}
    if not entries:
        return "policies"
    votes = {kind: sum(kind in _kinds(entry) for entry in entries) for kind in kinds}
    if not votes:
        expected = "a TLS policy table, transport(5), relay_clientcerts or main.cf"
        raise CommandError(f"{path}: no line of it looks like one of {expected}", USAGE)
    return max(votes, key=votes.__getitem__)


def _kinds(entry: Entry) -> Iterator[str]:
    first = entry.value.replace(",", " ").split(" ", 1)[0]
    if _FINGERPRINT.match(entry.key):
        yield "clients"
    elif first.lower() in LEVELS:
        yield "policies"
    elif ":" in first:
        yield "transports"


def _import_main(main: Main, control: Path, report: Report) -> None:
    """Parameters that are neither a level nor a table."""
    others = 0
    for name, (value, origin) in main.values.items():
        text = f"{name} = {value}"
        if name in _BY_HAND and main.get(name):
            report.refuse(origin, text, _BY_HAND[name])
        elif _NEVER in value:
            problem = (
                f"a certificate of any CA opens nothing here; name whom you mean in control/tlsclients, not {_NEVER}"
            )
            report.refuse(origin, text, problem)
        elif name == "smtp_tls_wrappermode" and main.get(name) == "yes":
            report.refuse(
                origin, text, "TLS from the first byte is asked for by route: control/smtproutes, DOMAIN:smtps:HOST"
            )
        elif name == "myhostname":
            _import_name(main, control, report)
        elif name not in _READ:
            others += 1
    if others and main.path is not None:
        origin = next(iter(main.values.values()))[1]
        why = "not about where mail goes and under which TLS; docs/migrating-from-postfix.md says what becomes what"
        report.idle(type(origin)(str(main.path)), counted(others, "other parameter"), why)


def _import_name(main: Main, control: Path, report: Report) -> None:
    name, origin = canonical(main.get("myhostname")), main.origin("myhostname")
    if (control / "me").exists():
        report.idle(origin, f"myhostname = {name}", "control/me is there")
    elif is_host_name(name):
        report.carry(origin, f"myhostname = {name}", [Written("me", name, "me")], "the name of this host")
    else:
        report.refuse(origin, f"myhostname = {main.get('myhostname')}", "it is no host name; write control/me")
