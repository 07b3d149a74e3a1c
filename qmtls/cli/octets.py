"""What the octets of a message and of its log say against a filter, before anything is decoded.

Only rules out, and only where that is certain; the filter itself decides about the rest. Envelope and log are JSON in
ASCII: plain characters stand there as they are, others as `\\uXXXX`. Where such are, nothing is ruled out, for
Python's lower() may make a plain letter of one.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Iterator

from qmtls.spool.glance import Choice

_PLAIN = re.compile(r"[ !#-\[\]-~]+")  # what JSON in ASCII writes as it is
_ESCAPED = b"\\u"
_END = b"}\r\n"  # of the envelope
_ARRIVED = re.compile(rb'"arrival":\{"time":([0-9]+(?:\.[0-9]+)?),"client":"([^"\\]*)"')


def choice(args: argparse.Namespace, now: float, ruled: bool) -> Choice:
    """For the arguments of `queuefilter.add_filters`. `ruled`: a reason may be a standing hold's, not the log's."""
    return Choice(_start(args, now), (lambda log: True) if ruled else _log(args.reason))


def _start(args: argparse.Namespace, now: float) -> Callable[[bytes, int], bool]:
    needles = list(_needles(args))
    latest = now - args.older if args.older is not None else math.inf
    earliest = now - args.younger if args.younger is not None else -math.inf
    networks = args.client if args.client is not None and args.client.networks else None
    looks = networks is not None or args.older is not None or args.younger is not None
    larger = args.larger if args.larger is not None else -1

    def wanted(start: bytes, length: int) -> bool:
        end = start.find(_END)
        if end < 0:
            return True
        if length - end - len(_END) <= larger:
            return False
        head = start[:end]
        if looks and (arrived := _ARRIVED.search(head)) is not None:
            if not earliest <= float(arrived[1]) <= latest:
                return False
            if networks is not None and not networks.admit(arrived[2].decode("ascii", "replace"), ""):
                return False
        return not needles or _holds_all(head, needles)

    return wanted


def _log(reason: str | None) -> Callable[[bytes], bool]:
    # A reason may be put together of two sentences with "; " between.
    if not reason or ";" in reason or _PLAIN.fullmatch(reason) is None:
        return lambda log: True
    needles = [reason.lower().encode("ascii")]
    return lambda log: _holds_all(log, needles)


def _holds_all(text: bytes, needles: list[bytes]) -> bool:
    low = text.lower()
    return all(needle in low for needle in needles) or _ESCAPED in text


def _needles(args: argparse.Namespace) -> Iterator[bytes]:
    """What must be in an envelope that is meant, in lower case."""
    parts: list[str] = []
    for word in (args.sender, args.to, args.domain):
        if word is not None:
            parts += ["null"] if word == "<>" else word.split("@")
    if args.client is not None:
        parts += args.client.identities
    for part in parts:
        if _PLAIN.fullmatch(part):
            yield part.lower().encode("ascii")
