"""transport_maps and relayhost as `smtproutes`, relay_clientcerts as `tlsclients`."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence

from qmtls.cli.foreign.mapping import Report, Written
from qmtls.cli.foreign.postfix_files import Entry
from qmtls.cli.foreign.postfix_model import DIGEST_LENGTHS, SMTP_TRANSPORTS, Postfix, read_server
from qmtls.control.values import SHA256_MEND
from qmtls.tls.names import canonical, is_host_name

ROUTES = "smtproutes"
CLIENTS = "tlsclients"
_HEX = re.compile(r"[0-9a-f]+\Z")
_LABEL = re.compile(r"[A-Za-z0-9._-]{1,60}\Z")
_HERE = frozenset({"local", "virtual"})


def import_routes(postfix: Postfix, entries: Sequence[Entry], report: Report) -> None:
    """transport(5): pattern, transport:nexthop."""
    for entry in entries:
        if postfix.transports.get(entry.key) is not entry:
            first = postfix.transports[entry.key].origin
            report.idle(entry.origin, entry.text, f"Postfix uses the first line for this key only, {first}")
            continue
        transport, colon, nexthop = entry.value.partition(":")
        transport, nexthop = transport.strip(), nexthop.strip()
        pattern = "" if entry.key == "*" else canonical(entry.key)
        before = f"to {nexthop or 'the MX hosts of the domain'}" if transport in SMTP_TRANSPORTS else f"by {transport}"
        if pattern and not is_host_name(pattern.removeprefix(".")):
            problem = "only a domain, .parent or * can have a route; write one for the domain"
            report.refuse(entry.origin, entry.text, problem, before)
        elif not colon:
            report.refuse(entry.origin, entry.text, "it is no transport:nexthop; mend the line", before)
        elif not transport and not nexthop:
            report.idle(entry.origin, entry.text, "no route, as without the line")
        elif transport in _HERE:
            problem = (
                f"it is delivered here: write {pattern or 'the domain'} into control/locals or control/virtualdomains"
            )
            report.refuse(entry.origin, entry.text, problem, before)
        elif transport not in SMTP_TRANSPORTS:
            problem = f"the transport {transport} is not SMTP; let Postfix keep this mail, and route it there"
            report.refuse(entry.origin, entry.text, problem, before)
        else:
            _route(entry, pattern, nexthop, before, report)


def import_relayhost(postfix: Postfix, report: Report) -> None:
    main = postfix.main
    nexthop = main.get("relayhost")
    if not nexthop:
        return
    others = postfix.transports.get("*")
    if others is not None and others.value.strip() != ":":
        report.idle(main.origin("relayhost"), f"relayhost = {nexthop}", f"{others.origin} comes before it for all mail")
        return
    entry = Entry(main.origin("relayhost"), f"relayhost = {nexthop}", "*", f":{nexthop}")
    _route(entry, "", nexthop, f"all other mail to {nexthop}", report)


def _route(entry: Entry, pattern: str, nexthop: str, before: str, report: Report) -> None:
    if not nexthop:
        report.carry(entry.origin, entry.text, [Written(ROUTES, f"{pattern}:", f"{pattern}:")], before)
        return
    server = read_server(nexthop)
    if server is None:
        host = nexthop.partition(":")[0]
        problem = f"Postfix asks for the MX hosts of {host}; a route here names one host: write {pattern}:HOST[:PORT]"
        report.refuse(entry.origin, entry.text, problem, before)
        return
    host = f"[{server.host}]" if ":" in server.host else server.host
    relay = host if server.port == 25 else f"{host}:{server.port}"
    if server.port == 465:
        relay = f"smtps:{host}"
    report.carry(entry.origin, entry.text, [Written(ROUTES, f"{pattern}:{relay}", f"{pattern}:")], before)


def import_clients(postfix: Postfix, entries: Sequence[Entry], report: Report) -> None:
    """relay_clientcerts: fingerprint, anything. Postfix compares it with the digests of certificate and key."""
    algorithm = postfix.main.get("smtpd_tls_fingerprint_digest").lower()
    for entry in entries:
        digits = entry.key.replace(":", "")
        before = "who shows this certificate or key may relay, where permit_tls_clientcerts is"
        if not _HEX.match(digits) or len(digits) not in DIGEST_LENGTHS.values():
            report.refuse(entry.origin, entry.text, "its first word is no fingerprint; mend the line", before)
        elif len(digits) != DIGEST_LENGTHS["sha256"] or algorithm not in ("", "sha256"):
            kind = next(name for name, length in DIGEST_LENGTHS.items() if length == len(digits)).upper()
            problem = f"the fingerprint is {kind}, not SHA-256; {SHA256_MEND}, and write: sha256:HEX"
            report.refuse(entry.origin, entry.text, problem, before)
        else:
            label = f" label={entry.value}" if _LABEL.match(entry.value) else ""
            key = f"spki:{b64encode(bytes.fromhex(digits)).decode()}"
            lines = [Written(CLIENTS, f"{rule}{label}", rule) for rule in (f"sha256:{digits}", key)]
            report.carry(entry.origin, entry.text, lines, before, "who shows this certificate or key may relay")
