"""What a command can say of mail that waits for TLS: since when, that the service probes for it, when the wait ends.

When the next probe comes only the running service knows; here is known how often they come, and who waits.
"""

from __future__ import annotations

from qmtls.cli.bins import Entry, State
from qmtls.cli.home import Home
from qmtls.cli.output import local_time
from qmtls.cli.owner import as_owner_of
from qmtls.delivery.schedule import FIRST_RETEST, MOST_RETEST
from qmtls.spool.api import unmet_since

FILE = "policyretest"


def first_probe(home: Home) -> float | None:
    """Seconds from an attempt to the first probe, 0 = none, as the file says; None if it says nothing sensible.

    Read here: to compile the whole directory takes time.
    """
    with as_owner_of(home.queue):
        try:
            text = (home.control / FILE).read_text("ascii").partition("\n")[0].strip()
        except FileNotFoundError:
            return float(FIRST_RETEST)
        except (OSError, ValueError):
            return None
    return float(text) if text.isdecimal() else None


def since(entry: Entry) -> dict[int, float]:
    """Recipients who wait because a TLS demand is not met, and since when."""
    waiting = set(entry.to)
    return {index: time for index, time in unmet_since(entry.history).items() if index in waiting}


def tls_words(entry: Entry, first: float | None) -> str:
    """One line; "" for mail that waits for something else, or that nobody tries."""
    found = since(entry)
    if not found or entry.state is not State.WAITING:
        return ""
    line = f"waits for TLS since {local_time(min(found.values()))}"
    if first is None:
        return line
    if not first:
        return f"{line}; control/{FILE} is 0, so there are no probes"
    return (
        f"{line}; a running service probes for that without mail, {_span(first)} after an attempt and then up to "
        f"{_span(first * MOST_RETEST)} apart, and sends it when a probe passes"
    )


def end_words(entry: Entry, lifetime: float) -> str:
    """When the wait for TLS ends by control/policylifetime (in seconds); "" as above."""
    if not tls_words(entry, None):
        return ""
    end = entry.envelope.arrival.time + lifetime
    return f"the first attempt after {local_time(end)} (policylifetime) is the last, if the demand is not met then"


def _span(seconds: float) -> str:
    """ "45s", "5m", "1h"; whole minutes and hours only as such."""
    for size, unit in ((3600, "h"), (60, "m")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"
