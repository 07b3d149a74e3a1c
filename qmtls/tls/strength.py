"""Is one demand at least as strong as another? Asked where a line's time is over: it ends only if what applies without
it lets nothing through that the line did not. Doubt is no.
"""

from __future__ import annotations

from qmtls.tls.demand import UNVERIFIED, Level, Policy

# What each level guarantees whatever evidence there will be: dane alone may end as may.
_FLOOR = {Level.NONE: 0, Level.MAY: 1, Level.DANE: 1, Level.ENCRYPT: 2}
_VERSIONS = ("", "TLSv1.2", "TLSv1.3")  # "" is the floor


def at_least(new: Policy, old: Policy) -> bool:
    """True if every connection that meets `new` would also meet `old`, as far as that can be told from the rules."""
    if new.broken or new.skip:
        return True
    if old.broken or old.skip or not _keeps_limits(new, old):
        return False
    if old.level in (Level.NONE, Level.MAY):
        return new.level is not Level.NONE or old.level is Level.NONE
    if old.level is Level.ENCRYPT:
        return _FLOOR.get(new.level, 2) >= 2
    if new.level in UNVERIFIED:
        return False
    if new.discovers and old.level is not Level.DANE:
        return False  # evidence goes before it, and asks for other names and authorities
    return _same_kind(new, old)


def _keeps_limits(new: Policy, old: Policy) -> bool:
    """What the handshake is bound to. A line that may end in plaintext binds nothing."""
    if old.level in (Level.NONE, Level.MAY):
        return True
    version = _VERSIONS.index(new.min_version) >= _VERSIONS.index(old.min_version) or not old.min_version
    ciphers = (new.ciphers, new.exclude) == (old.ciphers, old.exclude) or not (old.ciphers or old.exclude)
    return version and ciphers and (new.pq or not old.pq)


def _same_kind(new: Policy, old: Policy) -> bool:
    """Both say who the host is: comparable only where they ask the same question."""
    match old.level:
        case Level.VERIFY | Level.SECURE:
            return new.level in (Level.VERIFY, Level.SECURE) and _fewer_names(new, old) and _fewer_anchors(new, old)
        case Level.PIN:
            return new.level is Level.PIN and _fewer_pins(new, old)
        case Level.STS:
            return new.level is Level.STS and _fewer_anchors(new, old)
        case Level.DANE:
            return new.level in (Level.DANE, Level.DANE_ONLY)
        case _:
            return new.level is old.level


def _fewer_names(new: Policy, old: Policy) -> bool:
    return bool(new.names) and set(new.names) <= set(old.names)


def _fewer_anchors(new: Policy, old: Policy) -> bool:
    if new.anchors is None or old.anchors is None:
        return new.anchors is old.anchors
    return set(new.anchors) <= set(old.anchors)


def _fewer_pins(new: Policy, old: Policy) -> bool:
    if not new.pins.anchors:
        return new.pins.keys <= old.pins.keys and new.pins.certificates <= old.pins.certificates
    return new.pins == old.pins and set(new.names) <= set(old.names)
