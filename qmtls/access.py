"""Who may relay: a pure decision per recipient, with its reason in the reply."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from qmtls.smtp.reply import Reply
from qmtls.tls.clients import ClientRules

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class AccessRules:
    """What decides about a recipient, from one snapshot of the control directory. Host names in lower case."""

    locals: frozenset[str]
    rcpt_hosts: frozenset[str]  # exact names and ".parent" forms; rcpthosts and morercpthosts together
    networks: tuple[Network, ...] = ()
    clients: ClientRules = field(default_factory=ClientRules)
    bad_mail_from: frozenset[str] = frozenset()  # "user@host" and "@host"
    local_ip_host: str = ""


@dataclass(frozen=True, slots=True)
class Permit:
    """The recipient is taken. `by` says what opened the relay: "" for our own domains, else the network or identity."""

    by: str = ""


@dataclass(frozen=True, slots=True)
class Refuse:
    """The recipient is not taken."""

    reply: Reply


Decision = Permit | Refuse
