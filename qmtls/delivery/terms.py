"""What a next hop bears, as `control/destinations` has it: connections, messages at a time, their rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qmtls.lookup import nearest
from qmtls.tls.policy import Origin
from qmtls.tls.scope import Rate
from qmtls.wording import counted

BUILT_IN = Origin("built in")


@dataclass(frozen=True, slots=True)
class Terms:
    """One line; 0 or None = it limits nothing beyond `concurrencyremote`."""

    concurrency: int = 0  # messages at a time, by one worker
    connections: int = 0  # open at a time, also those that rest; by all workers of this host
    rate: Rate | None = None  # of messages, by all workers of this host
    messages: int = 0  # over one connection
    origin: Origin = BUILT_IN

    def lanes(self, ceiling: int) -> int:
        """How many may have a task at a time, where no next hop may have more than `ceiling`."""
        return min(self.concurrency or ceiling, ceiling)


NO_TERMS = Terms()


def terms_words(terms: Terms) -> str:
    """For people: "2 messages at a time, 100/h"."""
    words = [
        f"{terms.concurrency} messages at a time" if terms.concurrency else "",
        counted(terms.connections, "connection") if terms.connections else "",
        f"{terms.rate.text} messages" if terms.rate is not None else "",
        f"{terms.messages} messages over one connection" if terms.messages else "",
    ]
    return ", ".join(filter(None, words)) or "no limits"


@dataclass(frozen=True, slots=True)
class TermRules:
    """All lines by domain, ".parent", "[relay]:port" or "[relay]"; `default` is that of "*"."""

    default: Terms = NO_TERMS
    lines: Mapping[str, Terms] = field(default_factory=dict)

    def of(self, domain: str, route: str = "") -> Terms:
        """For mail to the hosts of `domain` (lower case), or, with `route` "[relay]:port", to that relay."""
        lines = self.lines
        if not lines:
            return self.default
        if route:
            return lines.get(route) or lines.get(route.rpartition("]")[0] + "]") or self.default
        return nearest(lines, domain) or self.default
