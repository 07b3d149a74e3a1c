"""Does the resolver check DNSSEC? Asked with a name that is signed and one whose signature is deliberately bad.

Without that DANE is off, and nothing else tells: a resolver that does not validate answers everything, a resolver that
is not trusted is not believed. One that drops answers to validate them defers all mail instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from qmtls.net.resolver import DnsTrouble, Resolver
from qmtls.tls.names import canonical

KIND = "A"  # that both names are asked for; whether the name has such a record does not matter


class DnssecState(Enum):
    """What the two names showed."""

    WORKS = "works"
    OFF = "off"  # DANE does not protect: nothing is ever secure, or bad signatures are taken
    UNKNOWN = "unknown"  # the names could not be asked now


@dataclass(frozen=True, slots=True)
class DnssecCheck:
    """The result; `sentence` is for the log and for people."""

    state: DnssecState
    sentence: str


async def check_dnssec(resolver: Resolver, signed: str, broken: str) -> DnssecCheck:
    """Asks for both names. Never raises for what DNS says."""
    signed, broken = canonical(signed), canonical(broken)
    if resolver.untrusted:
        servers = ", ".join(resolver.untrusted)
        why = f"{servers} is neither on this host nor named as trusted, so its word on DNSSEC does not count"
        return DnssecCheck(DnssecState.OFF, f"DANE is off: the resolver {why}")
    try:
        good = await resolver.ask(signed, KIND)
    except DnsTrouble as trouble:
        return DnssecCheck(DnssecState.UNKNOWN, f"whether DNSSEC is checked cannot be told: {trouble}")
    if not good.secure:
        why = f"the resolver does not say that {signed}, which should be signed, is secure"
        return DnssecCheck(DnssecState.OFF, f"DANE is off: {why}")
    try:
        await resolver.ask(broken, KIND)
    except DnsTrouble as trouble:
        if trouble.servfail:
            return DnssecCheck(DnssecState.WORKS, f"DNSSEC is checked: {signed} is secure, {broken} is refused")
        return DnssecCheck(DnssecState.UNKNOWN, f"whether DNSSEC is checked cannot be told: {trouble}")
    why = f"the resolver answers for {broken}, whose signature should be bad"
    return DnssecCheck(DnssecState.OFF, f"DANE does not protect: {why}")
