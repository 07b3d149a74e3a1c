"""Who may relay: a pure decision per recipient, with its reason in the reply.

The order is qmail-smtpd's: the sender's bad name, then our own domains, then networks, then the certificate. A
certificate is looked at only where nothing else opens the way; where nothing does, the refusal says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from qmtls.smtp.address import Address
from qmtls.smtp.reply import Reply, printable, reply
from qmtls.tls.clients import ClientMatch, ClientRules

Network = IPv4Network | IPv6Network

NOT_ALLOWED = "sorry, that domain isn't in my list of allowed rcpthosts"
NO_CERTIFICATE = "no valid cert for gatewaying"
POSTMASTER = "postmaster"  # RFC 5321 section 4.5.1: also without a domain, in any case of letters


@dataclass(frozen=True, slots=True)
class AccessRules:
    """What decides about a recipient, from one snapshot of the control directory. Host names in lower case."""

    locals: frozenset[str]
    rcpt_hosts: frozenset[str]  # exact names and ".parent" forms; rcpthosts and morercpthosts together
    networks: tuple[Network, ...] = ()
    clients: ClientRules = field(default_factory=ClientRules)
    bad_mail_from: frozenset[str] = frozenset()  # "user@host" and "@host"
    local_ip_host: str = ""
    postmaster_host: str = ""  # the local domain of <postmaster> without one; "" = there is no local domain
    # By IP version and prefix length, the first bits of the networks; longest prefix first.
    prefixes: Mapping[tuple[int, int], Mapping[int, str]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        prefixes: dict[tuple[int, int], dict[int, str]] = {}
        for network in sorted(self.networks, key=lambda n: -n.prefixlen):
            bits = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
            prefixes.setdefault((network.version, network.prefixlen), {})[bits] = str(network)
        object.__setattr__(self, "prefixes", prefixes)


@dataclass(frozen=True, slots=True)
class Peer:
    """The client of one connection; made anew once TLS is up."""

    address: str  # its IP address
    tls: bool
    match: ClientMatch | None  # None in plaintext
    tls_summary: str = ""  # TlsFacts.summary, for the trace field and the log
    local_address: str = ""  # our own IP address that it connected to, for mail to user@[IP]


@dataclass(frozen=True, slots=True)
class Permit:
    """The recipient is taken. `by` says what opened the relay: "" for our own domains, else the network or identity.

    `forward_path` is the address to store instead of the one given: set for <postmaster> and for user@[our own IP].
    """

    by: str = ""
    forward_path: Address | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """The recipient is not taken."""

    reply: Reply


Decision = Permit | Refuse

OURS = Permit()
BAD_SENDER = Refuse(reply(553, "5.7.1", "sorry, your envelope sender is in my badmailfrom list"))
NO_MAILBOX = Refuse(reply(550, "5.1.1", "sorry, no mailbox here by that name"))
NOT_ALLOWED_PLAIN = Refuse(reply(553, "5.7.1", NOT_ALLOWED))


def decide_sender(rules: AccessRules, peer: Peer, reverse_path: Address | None) -> Refuse | None:
    """What MAIL is answered with: None = go on.

    `badmailfrom` is the one rule about senders, and as in qmail its refusal is given at each RCPT instead: some
    clients send the rest of a pipeline after a refused MAIL as if it had been taken.
    """
    return None


def decide_recipient(
    rules: AccessRules,
    peer: Peer,
    reverse_path: Address | None,
    forward_path: Address,
    is_mailbox: Callable[[Address], bool],
) -> Decision:
    """What RCPT is answered with, for one recipient."""
    if reverse_path is not None and rules.bad_mail_from and _is_bad_sender(rules, reverse_path):
        return BAD_SENDER
    stored = _stored_path(rules, peer, forward_path)
    path = stored or forward_path
    host = path.host
    bare = not forward_path.domain
    if (bare or host in rules.locals) and not (host and is_mailbox(path)):
        return NO_MAILBOX
    if bare or _is_listed(rules.rcpt_hosts, host):
        return OURS if stored is None else Permit(forward_path=stored)
    network = _relay_network(rules, peer.address)
    if network:
        return Permit(network, stored)
    match = peer.match
    if match is not None and match.rule is not None:
        return Permit(match.rule.text, stored)
    return _not_allowed(peer)


def _is_bad_sender(rules: AccessRules, reverse_path: Address) -> bool:
    host = f"@{reverse_path.host}"
    return host in rules.bad_mail_from or reverse_path.local_part.lower() + host in rules.bad_mail_from


def _stored_path(rules: AccessRules, peer: Peer, path: Address) -> Address | None:
    """Another address for <postmaster> and for user@[our own IP] (qmail: localiphost), else None."""
    domain = path.domain
    if not domain:
        return Address(POSTMASTER if path.local_part.lower() == POSTMASTER else path.local_part, rules.postmaster_host)
    if domain[0] == "[" and rules.local_ip_host and peer.local_address:
        literal = domain[1:-1]
        ours = _parse(peer.local_address)
        if literal[:5].lower() == "ipv6:":  # RFC 5321 section 4.1.3
            literal = literal[5:]
        if ours is not None and _parse(literal) == ours:
            return Address(path.local_part, rules.local_ip_host)
    return None


def _is_listed(hosts: frozenset[str], host: str) -> bool:
    """As rcpthosts reads: the whole name, or any suffix of it that begins with a dot."""
    if host in hosts:
        return True
    dot = host.find(".")
    while dot >= 0:
        if host[dot:] in hosts:
            return True
        dot = host.find(".", dot + 1)
    return False


def _relay_network(rules: AccessRules, address: str) -> str:
    """The most specific network of `relaynetworks` that holds the address, "" if none does."""
    if not rules.prefixes:
        return ""
    ip = _parse(address)
    if ip is None:
        return ""
    version, width, number = ip.version, ip.max_prefixlen, int(ip)
    for (net_version, length), networks in rules.prefixes.items():
        if net_version == version:
            found = networks.get(number >> (width - length))
            if found:
                return found
    return ""


@lru_cache(maxsize=4096)
def _parse(address: str) -> IPv4Address | IPv6Address | None:
    """The address, an IPv4 one in IPv6 clothes (::ffff:192.0.2.1) undressed; None if it is none."""
    try:
        ip = ip_address(address)
    except ValueError:
        return None
    return (isinstance(ip, IPv6Address) and ip.ipv4_mapped) or ip


def _not_allowed(peer: Peer) -> Refuse:
    if not peer.tls:
        return NOT_ALLOWED_PLAIN
    reason = peer.match.reason if peer.match is not None else ""
    return Refuse(
        reply(553, "5.7.1", f"{NOT_ALLOWED}; {NO_CERTIFICATE}" + (f": {printable(reason, 200)}" if reason else ""))
    )
