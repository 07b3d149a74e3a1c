"""Who a local recipient is: aliases, virtual domains, and the mailboxes that take their mail. Pure.

A recipient of ours has one or more local names, tried in order: `joe` for joe@LOCAL; for joe@VIRTUAL, whose line in
`virtualdomains` says "shop", `shop-joe` and then the catch-all `shop`. With an extension, joe+list@LOCAL, `joe+list`
and then `joe`. A name is an alias or a mailbox; the alias comes first, and an alias that lists its own name means the
mailbox.

Expansion happens once, when mail is accepted. A virtual recipient keeps its address in the queue: which mailbox takes
it is asked again at delivery. Whether a mailbox exists is the caller's to say; what that raises passes through.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qmtls.lookup import folded, nearest
from qmtls.smtp.address import Address, is_domain, is_dot_string

if TYPE_CHECKING:  # with it comes all of cryptography, which `qmtls mailbox` can do without
    from qmtls.tls.policy import Origin

MAX_USER = 64  # RFC 5321 section 4.5.3.1.1
POSTMASTER = "postmaster"  # RFC 5321 section 4.5.1

_USER = re.compile(rf"[a-z0-9_][a-z0-9._+-]{{0,{MAX_USER - 1}}}", re.ASCII)

IsMailbox = Callable[[Address], bool]  # by the local part; the domain is not looked at


def _users(local_part: str) -> tuple[str, ...]:
    """A lower-case local part, and without its extension."""
    if "+" not in local_part or local_part[0] in '+"':
        return (local_part,)
    return local_part, local_part.partition("+")[0]


def is_user(name: str) -> bool:
    """Can this (lower-case) name be a mailbox? Never with a slash, a leading dot, or what a shell stumbles over."""
    return _USER.fullmatch(name) is not None


@dataclass(frozen=True, slots=True, eq=False)
class Alias:
    """One line of `aliases`. `name` is "joe" for every local domain, or "joe@domain"; lower case."""

    name: str
    targets: tuple[Address, ...]
    origin: Origin


@dataclass(frozen=True, slots=True)
class VirtualDomains:
    """`virtualdomains`, keys in lower case: "user@domain", "domain", ".domain", "" for all the rest. The value is
    what is put before the user's name; "" = an exception, remote as ever."""

    prepends: Mapping[str, str] = field(default_factory=dict)
    origins: Mapping[str, Origin] = field(default_factory=dict, compare=False, repr=False)  # of the lines

    def prepend(self, user: str, host: str) -> str:
        """What holds for this user, searched as qmail-send does: the address, the domain, its parents, the rest.
        "" = not virtual."""
        prepends = self.prepends
        if not prepends:
            return ""
        found = None
        for name in _users(user):
            if found is None:
                found = prepends.get(f"{name}@{host}")
        if found is None:
            found = nearest(prepends, host)
        return prepends.get("", "") if found is None else found


@dataclass(frozen=True, slots=True)
class Recipients:
    """What the control directory says about our own recipients. Host names in lower case.

    `postmaster_host` is the local domain of names without one; "" = there is no local domain.
    """

    locals: frozenset[str] = frozenset()
    aliases: Mapping[str, Alias] = field(default_factory=dict)
    virtual: VirtualDomains = field(default_factory=VirtualDomains)
    postmaster_host: str = ""
    percent_hosts: frozenset[str] = frozenset()

    def rewritten(self, address: Address) -> Address:
        """`percenthack`: user%host@listed is user@host, as often as that applies. To be done before it is decided
        whether the recipient may be had, or it would open the relay."""
        while self.percent_hosts and address.host in self.percent_hosts:
            user, percent, host = address.local_part.rpartition("%")
            if not (percent and is_dot_string(user) and is_domain(host)):
                break
            address = Address(user, host)
        return address

    def names(self, address: Address) -> tuple[str, ...]:
        """The local names of `address`, first choice first; () = it is not delivered here."""
        host = address.host
        users = _users(folded(address.local_part))
        if not host or host in self.locals:
            return users
        prepend = self.virtual.prepend(users[0], host)
        return (*[f"{prepend}-{user}" for user in users], prepend) if prepend else ()

    def local_form(self, address: Address) -> Address:
        """As qmail calls it in Delivered-To: prepend-user@domain for a virtual recipient, else as it is."""
        host = address.host
        names = () if not host or host in self.locals else self.names(address)
        return Address(names[0], address.domain) if names else address

    def resolve(self, address: Address, is_mailbox: IsMailbox) -> tuple[Address, ...] | None:
        """The addresses to store instead of `address`, each once: itself if it is a mailbox or not ours at all.

        None = no such recipient here. Targets that are gone are left out. Postmaster is never refused: where nothing
        takes his mail his address is stored, and the mail waits for a mailbox.
        """
        names = self.names(address)
        if not names:
            return (address,)
        found = self._place(address, names, is_mailbox)
        if found is True:
            return (address,)
        if found:
            expanded = self._expanded(found, is_mailbox)
            if expanded:
                return expanded
        if folded(address.local_part) != POSTMASTER:
            return None
        if len(names) > 1:  # of a virtual domain: the one of this host answers for it
            return self.resolve(Address(POSTMASTER, self.postmaster_host), is_mailbox)
        return (address,)

    def expand(self, address: Address, is_mailbox: IsMailbox) -> tuple[Address, ...]:
        """The same for mail made on this host: nobody is refused, who does not exist comes back as a report."""
        address = self.rewritten(address)
        return self.resolve(address, is_mailbox) or (address,)

    def alias_for(self, address: Address) -> Alias | None:
        """The first alias that could take `address`, whatever mailboxes there are."""
        return next((alias for _, alias in self._choices(address, self.names(address)) if alias is not None), None)

    def _place(self, address: Address, names: tuple[str, ...], is_mailbox: IsMailbox) -> Alias | bool:
        """The alias that takes `address`, or whether a mailbox does."""
        if not self.aliases:
            return any(is_mailbox(Address(name, "")) for name in names)
        for name, alias in self._choices(address, names):
            if alias is not None:
                return alias
            if is_mailbox(Address(name, "")):
                return True
        return False

    def _choices(self, address: Address, names: tuple[str, ...]) -> Iterator[tuple[str, Alias | None]]:
        """Each name with the alias that goes before the mailbox: the one for the whole address before the one for
        the name."""
        aliases, users = self.aliases, _users(folded(address.local_part))
        for n, name in enumerate(names):
            alias = aliases.get(f"{users[n]}@{address.host}") if n < len(users) else None
            yield name, alias or aliases.get(name)

    def _expanded(self, first: Alias, is_mailbox: IsMailbox) -> tuple[Address, ...]:
        """All that an alias and those behind it lead to. An alias met twice counts once, so it always ends."""
        found: dict[Address, None] = {}
        seen = {first.name}
        aliases = [first]
        for alias in aliases:
            for target in alias.targets:
                names = self.names(target)
                place = not names or self._place(target, names, is_mailbox)
                if place is alias:
                    place = any(is_mailbox(Address(name, "")) for name in names)
                if place is True:
                    found[target] = None
                elif place and place.name not in seen:
                    seen.add(place.name)
                    aliases.append(place)
        return tuple(found)
