"""Listening sockets as the rest sees them: what each is for, and who comes in by one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Role(Enum):
    """What a listening socket is for; the words are those of `control/listen`."""

    __hash__ = object.__hash__  # a table look-up costs no call in Python

    SMTP = "smtp"  # STARTTLS
    SMTPS = "smtps"  # TLS from the first octet
    SUBMISSION = "submission"  # STARTTLS, and nothing without an identity (RFC 6409)


@dataclass(frozen=True, slots=True)
class Door:
    """One listening socket. `proxied`: what comes in begins with a header of the PROXY protocol."""

    role: Role = Role.SMTP
    proxied: bool = False


@dataclass(frozen=True, slots=True)
class Caller:
    """Who came in, as far as the network says it."""

    address: str  # IP address; "" = it has none (a unix socket, a proxy that does not say)
    role: Role = Role.SMTP
    local_address: str = ""  # ours that it connected to, where a proxy says so; else the socket knows
    early: bool = False  # something came before our greeting
