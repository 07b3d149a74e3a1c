"""What `qmtls check` says of our own recipients: who is reached, and which names point nowhere.

Pure: the compiled directory and the names of the mailboxes go in, findings come out. This is no part of compiling:
mailboxes come and go, and none that is removed may keep the service from starting.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

from qmtls.control.findings import Finding, FindingLevel
from qmtls.control.settings import Settings
from qmtls.lookup import is_listed
from qmtls.recipients import POSTMASTER, Alias, Recipients
from qmtls.smtp.address import Address
from qmtls.tls.policy import Origin


def describe_recipients(settings: Settings, mailboxes: Set[str]) -> Iterator[Finding]:
    """Every finding about postmaster, aliases and virtual domains. An error is: mail that is refused or waits."""
    ours = settings.recipients
    yield from _postmaster(ours, mailboxes)
    for alias in ours.aliases.values():
        yield from _alias(ours, alias, mailboxes)
    if ours.virtual.prepends:
        yield from _virtual(settings, mailboxes)


def _postmaster(ours: Recipients, mailboxes: Set[str]) -> Iterator[Finding]:
    address = Address(POSTMASTER, ours.postmaster_host)
    if ours.resolve(address, lambda path: path.local_part in mailboxes) == (address,) and POSTMASTER not in mailboxes:
        text = (
            f"nobody takes mail to {POSTMASTER}: it waits; run: qmtls mailbox add {POSTMASTER}, or name him in aliases"
        )
        yield Finding(FindingLevel.ERROR, Origin("control/aliases"), text)


def _alias(ours: Recipients, alias: Alias, mailboxes: Set[str]) -> Iterator[Finding]:
    nowhere = [str(target) for target in alias.targets if not _reaches(ours, alias, target, mailboxes)]
    if not nowhere:
        return
    names = ", ".join(nowhere[:3]) + (f" and {len(nowhere) - 3} more" if len(nowhere) > 3 else "")
    mend = "make the mailbox (qmtls mailbox add NAME), or mend the line"
    if len(nowhere) == len(alias.targets):
        text = f"{alias.name} points nowhere: there is no {names}; its mail is refused: {mend}"
        yield Finding(FindingLevel.ERROR, alias.origin, text)
    else:
        text = f"there is no {names}: left out of what {alias.name} stands for; {mend}"
        yield Finding(FindingLevel.WARNING, alias.origin, text)


def _reaches(ours: Recipients, alias: Alias, target: Address, mailboxes: Set[str]) -> bool:
    """Does this target of `alias` lead to anybody?"""
    names = ours.names(target)
    if not names or any(name in mailboxes for name in names):
        return True
    return ours.alias_for(target) is not alias and bool(ours.resolve(target, lambda path: path.local_part in mailboxes))


def _virtual(settings: Settings, mailboxes: Set[str]) -> Iterator[Finding]:
    ours = settings.recipients
    names = mailboxes | ours.aliases.keys()
    known = _beginnings(names)
    served = {name.rpartition("@")[2] for name in ours.aliases if "@" in name}
    for key, prepend in ours.virtual.prepends.items():
        user, at, domain = key.rpartition("@")
        if not prepend or domain in ours.locals:
            continue
        origin = ours.virtual.origins.get(key, Origin("control/virtualdomains"))
        if at:
            taken = f"{prepend}-{user}" in names or prepend in names or key in ours.aliases
        else:
            taken = prepend in known or domain in served
        if not taken:
            text = (
                f"nobody takes this mail: there is no mailbox or alias {prepend}, and none that begins with {prepend}-"
            )
            yield Finding(FindingLevel.WARNING, origin, f"{text}; run: qmtls mailbox add {prepend}")
        if domain and not is_listed(settings.access.rcpt_hosts, domain):
            text = f"{domain} is not in rcpthosts: mail from outside is refused; add it there"
            yield Finding(FindingLevel.WARNING, origin, text)


def _beginnings(names: Set[str]) -> set[str]:
    """Each name, and what stands before each of its hyphens."""
    return {name[:end] for name in names for end in (len(name), *(i for i, c in enumerate(name) if c == "-"))}
