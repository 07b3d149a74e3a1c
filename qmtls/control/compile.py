"""The control directory compiled to one frozen Settings, or refused with everything that is wrong with it.

All files are read, problems are collected, and only then is it decided: so one run of `qmtls check` shows them all, and
a reload takes the new state as a whole or not at all. Pin files are the exception: a bad one makes mail for its name
wait and nothing else. No clock is read here: what depends on the date is said by `describe`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from qmtls.access import AccessRules
from qmtls.control.authroutes import read_logins
from qmtls.control.clientcerts import read_client_credentials
from qmtls.control.destinations import read_destinations
from qmtls.control.dkim import read_dkim_keys
from qmtls.control.dnssettings import read_dns
from qmtls.control.holds import read_holds
from qmtls.control.limits import read_limits
from qmtls.control.lists import Content, ControlFiles, quote
from qmtls.control.pem import load_authorities, load_credential, load_crls
from qmtls.control.pins import read_host_files
from qmtls.control.policies import read_default, read_policy_lines
from qmtls.control.recipients import read_recipients
from qmtls.control.rights import read_access
from qmtls.control.routes import read_routing
from qmtls.control.servercerts import DIRECTORY, read_server_credentials
from qmtls.control.settings import ClientTrust, ControlError, Credential, Listener, Problem, Settings
from qmtls.control.tlsreports import read_reporting
from qmtls.control.users import read_users
from qmtls.control.values import (
    bounce_style,
    cipher_list,
    greeting,
    host,
    host_or_literal,
    local_part,
    number,
)
from qmtls.delivery.schedule import FIRST_RETEST
from qmtls.tls.clients import BY_KEY
from qmtls.tls.policy import Origin, PolicyRules

DAY = 86400
DEFAULT_CIPHERS = "DEFAULT"
SERVER_CIPHERS = "DEFAULT:!kRSA"  # who could only do RSA key transport has no forward secrecy, and is a TLS 1.0 program
ROLES = ("smtp", "smtps", "submission", "admin")

# file: field of Settings, its type, default, least, most. Defaults are qmail's; the upper bounds only catch slips of
# the hand.
NUMBERS: Mapping[str, tuple[str, type[int | float], int, int, int]] = {
    "databytes": ("data_bytes", int, 0, 0, 1 << 40),
    "timeoutsmtpd": ("timeout_smtpd", float, 1200, 1, DAY),
    "timeoutremote": ("timeout_remote", float, 1200, 1, DAY),
    "timeoutconnect": ("timeout_connect", float, 60, 1, DAY),
    "concurrencyremote": ("concurrency_remote", int, 20, 0, 10_000),
    "concurrencylocal": ("concurrency_local", int, 10, 0, 10_000),
    "queuelifetime": ("queue_lifetime", float, 604_800, 0, 366 * DAY),
    "policylifetime": ("policy_lifetime", float, -1, 0, 366 * DAY),  # missing = as queuelifetime
    "policyretest": ("policy_retest", float, FIRST_RETEST, 0, 366 * DAY),
    "delaywarn": ("delay_warn", float, 14_400, 0, 366 * DAY),
}

T = TypeVar("T")


def compile_control(control: Path) -> Settings:
    """Reads the directory. Raises ControlError with every problem found."""
    files = ControlFiles(control)
    if not control.is_dir():
        mend = "make one with `qmtls init`, or name the right one with --control"
        raise ControlError((Problem(Origin(str(control)), "is no directory that can be read", mend),))
    basis = _basis(files)
    dkim = read_dkim_keys(files)
    settings = replace(
        basis,
        logins=read_logins(files, basis.routing),
        limits=read_limits(files, basis.access.networks),
        users=read_users(files),
        holds=read_holds(files),
        terms=read_destinations(files, basis.routing, basis.concurrency_remote),
        dkim=dkim,
        tls_reports=read_reporting(files, basis.me, dkim),
    )
    # Everything has been read: a problem ends it here.
    return replace(settings, outside=files.outside, warnings=files.finish())


def _basis(files: ControlFiles) -> Settings:
    """What there is without any further file: names, who may relay, where mail goes, TLS, times."""
    me = _me(files)
    access = read_access(files, me)
    recipients = read_recipients(files, access.locals, access.postmaster_host)
    numbers = _numbers(files)
    client_credentials = read_client_credentials(files)
    dns = read_dns(files)
    return Settings(
        control=files.control,
        me=me,
        greeting=_single(files, "smtpgreeting", greeting, me),
        helo_host=_single(files, "helohost", host_or_literal, me),
        access=access,
        tls=_policy_rules(files, frozenset(client_credentials)),
        recipients=recipients,
        routing=read_routing(files, recipients),
        client_trust=_client_trust(files, access),
        server_credential=_pem(files, "servercert.pem", load_credential),
        named_credentials=_named_credentials(files),
        client_credential=_pem(files, "clientcert.pem", load_credential),
        client_credentials=client_credentials,
        server_ciphers=_ciphers(files, "tlsserverciphers", SERVER_CIPHERS),
        client_ciphers=_ciphers(files, "tlsclientciphers", DEFAULT_CIPHERS),
        **numbers,
        bounce_style=_single(files, "bouncestyle", bounce_style, "dsn"),
        bounce_from=_single(files, "bouncefrom", local_part, "MAILER-DAEMON"),
        bounce_host=_single(files, "bouncehost", host, me),
        double_bounce_to=_single(files, "doublebounceto", local_part, "postmaster"),
        double_bounce_host=_single(files, "doublebouncehost", host, me),
        dns_servers=dns.servers,
        dns_trusted=dns.trusted,
        dns_check=dns.check,
        listeners=_listeners(files),
    )


def _single(files: ControlFiles, name: str, parse: Callable[[str], T], default: T) -> T:
    """The value of a single-value file; `default` if it is missing, or bad (then a problem is recorded)."""
    line = files.first_line(name)
    if line is not None:
        with files.collecting(line.origin):
            return parse(line.text)
    return default


def _me(files: ControlFiles) -> str:
    before = len(files.problems)
    me = _single(files, "me", host, "")
    if not me and len(files.problems) == before:
        files.problem(files.origin("me"), "does not exist", "write this host's full name into it, in one line")
    return me or "localhost"  # only so that the other files can be read for their problems


def _numbers(files: ControlFiles) -> dict[str, Any]:
    """The fields of Settings that NUMBERS names."""

    def bounded(least: int, most: int) -> Callable[[str], int]:
        return lambda text: number(text, least, most)

    found: dict[str, Any] = {}
    for name, (field, kind, default, least, most) in NUMBERS.items():
        found[field] = kind(_single(files, name, bounded(least, most), default))
    if found["policy_lifetime"] < 0:
        found["policy_lifetime"] = found["queue_lifetime"]
    return found


def _ciphers(files: ControlFiles, name: str, default: str) -> str:
    words = []
    for line in files.lines(name) or ():
        with files.collecting(line.origin):
            words.append(cipher_list(line.text))
    return ":".join(words) or default


def _pem(files: ControlFiles, name: str, load: Callable[[Content], T]) -> T | None:
    content = files.read(name)
    if content is not None:
        with files.collecting(content.origin):
            return load(content)
    return None


def _named_credentials(files: ControlFiles) -> dict[str, Credential]:
    found = read_server_credentials(files)
    if found and not (files.control / "servercert.pem").exists():
        mend = "make servercert.pem: it is for clients that ask for another name, or for none"
        files.problem(files.origin(DIRECTORY), "is of no use without servercert.pem", mend)
    return found


def _client_trust(files: ControlFiles, access: AccessRules) -> ClientTrust | None:
    before = len(files.problems)
    authorities = _pem(files, "clientca.pem", load_authorities)
    crls = _pem(files, "clientcrl.pem", load_crls)
    if len(files.problems) > before:
        return None
    if authorities is not None:
        return ClientTrust(authorities, crls)
    if crls is not None:
        mend = "put the CA's certificate into clientca.pem, or remove clientcrl.pem"
        files.problem(files.origin("clientcrl.pem"), "is of no use without clientca.pem", mend)
    mend = "put the CA that signs the clients' certificates into control/clientca.pem"
    for rule in access.clients.rules:
        if rule.kind not in BY_KEY:
            files.warn(rule.origin, "an e-mail, dn: or san: rule matches nobody without clientca.pem", mend)
    for sender in access.senders.values():
        if sender.identities and all(kind not in BY_KEY for kind, _ in sender.identities):
            files.warn(sender.origin, f"no mail of {sender.domain} is taken without clientca.pem", mend)
    return None


def _policy_rules(files: ControlFiles, identities: frozenset[str]) -> PolicyRules:
    hosts = read_host_files(files)
    default = read_default(files)
    return PolicyRules(
        default=default.policy,
        pins=hosts.pins,
        lines=read_policy_lines(files),
        exhaustive=hosts.exhaustive,
        no_tls=hosts.no_tls,
        default_match=default.match,
        identities=identities,
    )


def _listeners(files: ControlFiles) -> tuple[Listener, ...]:
    found = []
    for line in files.lines("listen") or ():
        words = line.text.split(None, 1)
        if len(words) == 2 and words[0] in ROLES:
            found.append(Listener(words[0], words[1].strip(), line.origin))
        else:
            mend = "write: smtp tcp:25, with smtp, smtps, submission or admin as the first word"
            files.problem(line.origin, f"{quote(line.text)} is no role with an endpoint", mend)
    return tuple(found)
