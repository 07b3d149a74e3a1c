"""Who may relay, as the files say it: locals, rcpthosts, badmailfrom, relaynetworks, tlsclients, tlssenders."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from qmtls.access import AccessRules
from qmtls.control.clientrules import client_rule
from qmtls.control.lists import BadValueError, ControlFiles, Line, quote
from qmtls.control.senders import read_senders
from qmtls.control.values import domain_or_parent, host, network
from qmtls.networks import Network
from qmtls.smtp.address import AddressError, folded, parse_address
from qmtls.tls.clients import ClientRules

T = TypeVar("T")


def read_access(files: ControlFiles, me: str) -> AccessRules:
    """Every rule about recipients. A missing rcpthosts means me and locals, never everything."""
    locals = read_locals(files, me)
    local_ip = files.first_line("localiphost")
    return AccessRules(
        locals=locals,
        rcpt_hosts=_rcpt_hosts(files, me, locals),
        networks=_networks(files),
        clients=ClientRules(tuple(_each(files, files.lines("tlsclients"), client_rule))),
        bad_mail_from=_bad_mail_from(files),
        senders=read_senders(files),
        local_ip_host=next(iter(_each(files, [local_ip] if local_ip else None, lambda line: host(line.text))), me),
        postmaster_host=read_own_domain(files, me, locals),
    )


def read_locals(files: ControlFiles, me: str) -> frozenset[str]:
    """The domains whose mail is delivered here; me if the file is missing."""
    lines = files.lines("locals")
    return frozenset((me,) if lines is None else _each(files, lines, _local))


def read_own_domain(files: ControlFiles, me: str, locals: frozenset[str]) -> str:
    """The local domain of names without one: envnoathost, else me, else the first of locals; "" = there is none."""
    line = files.first_line("envnoathost")
    if line is not None:
        with files.collecting(line.origin):
            named = host(line.text)
            if named in locals:
                return named
            files.warn(line.origin, f"{named} is not in locals: <postmaster> stays here", "add it to locals")
    return me if me in locals else min(locals, default="")


def _each(files: ControlFiles, lines: list[Line] | None, parse: Callable[[Line], T]) -> list[T]:
    """What the lines say; those that say nothing usable become problems."""
    found = []
    for line in lines or ():
        try:
            found.append(parse(line))
        except BadValueError as bad:
            files.problem(line.origin, bad.what, bad.mend)
    return found


def _local(line: Line) -> str:
    if line.text.startswith("."):
        raise BadValueError(f"{quote(line.text)} names no domain of its own", "write each local domain on its own line")
    return _rcpt_host(line)


def _rcpt_host(line: Line) -> str:
    """A name, a ".parent", or an address literal as qmail's files may hold."""
    text = line.text.lower()
    return text if text.startswith("[") and text.endswith("]") else domain_or_parent(text)


def _rcpt_hosts(files: ControlFiles, me: str, locals: frozenset[str]) -> frozenset[str]:
    lines, more = files.lines("rcpthosts"), files.lines("morercpthosts")
    if more is None and files.read("morercpthosts.cdb") is not None:
        what = "is not read: the text file morercpthosts is, and it is missing"
        files.problem(files.origin("morercpthosts.cdb"), what, "put the domains into morercpthosts, or remove the cdb")
    hosts = {me} | locals if lines is None else set(_each(files, lines, _rcpt_host))
    return frozenset(hosts.union(_each(files, more, _rcpt_host)))


def _bad_mail_from(files: ControlFiles) -> frozenset[str]:
    found = set()
    for line in files.lines("badmailfrom") or ():
        sender = _bad_sender(folded(line.text))
        if sender:
            found.add(sender)
        else:
            files.warn(line.origin, f"{quote(line.text)} never matches", "write user@host or @host")
    return frozenset(found)


def _bad_sender(text: str) -> str:
    """In the form that reverse-paths have: A-labels, no quotes that are not needed. "" if none can be so."""
    local_part, at, domain = text.removesuffix(".").rpartition("@")
    try:
        address = parse_address(f"{local_part or 'any'}@{domain}", smtputf8=True)
    except AddressError:
        return ""
    return f"{address.local_part if local_part else ''}@{address.host}" if at else ""


def _networks(files: ControlFiles) -> tuple[Network, ...]:
    def parse(line: Line) -> Network:
        found = network(line.text)
        if found.prefixlen == 0:
            files.warn(line.origin, f"{found} lets everyone relay", "name the networks of your own hosts")
        return found

    return tuple(_each(files, files.lines("relaynetworks"), parse))
