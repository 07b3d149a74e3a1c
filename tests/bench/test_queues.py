"""A queue that the benchmark fills is one that the service finds waiting; what a run of cold domains showed."""

from __future__ import annotations

import time
from pathlib import Path

from bench.names import cold_figures
from bench.nameserver import Asked
from bench.queues import LATER, Round, fill, shares
from bench.tools import Sent
from qmtls.spool.maildir import MaildirSpool

MS = 1_000_000


def test_filled_bins_share_what_waits(tmp_path: Path) -> None:
    bins = [tmp_path / "1", tmp_path / "2"]
    began = time.time()
    fill(bins, 7, "dead.test")
    spools = [MaildirSpool(place) for place in bins]
    found = [list(spool.scan()) for spool in spools]
    assert [len(each) for each in found] == [4, 3]
    assert all(began + LATER - 1 <= waiting.due <= time.time() + LATER for each in found for waiting in each)
    stored = spools[0].stored(found[0][0].id)
    assert [attempt.deferred for attempt in stored.history] == [(0,)]
    assert str(stored.envelope.recipients[0].address) == "r@dead.test"
    assert len({waiting.id for each in found for waiting in each}) == 7


def sent(name: str) -> Sent:
    return Sent({name: 0}, {name: 10 * MS}, frozenset(), 0, 0, 0, 0, 10 * MS)


def test_rounds_of_each_kind_and_whether_dane_was_asked_beside_the_connection() -> None:
    runs = {
        "dane.test": sent("dane-00000001"),
        "plain.test": sent("plain-00000000"),
        "none.test": sent("none-00000000"),
    }
    asked = [
        Asked("d1.dane.test", "MX", 0),
        Asked("mx.d1.dane.test", "A", 20 * MS),
        Asked("mx.d1.dane.test", "AAAA", 21 * MS),
        Asked("_25._tcp.mx.d1.dane.test", "TLSA", 41 * MS),
        Asked("d11.dane.test", "MX", 500 * MS),  # another domain's
        Asked("d0.plain.test", "MX", 0),
        Asked("d0.none.test", "MX", 0),
    ]
    log = [("dane-00000001", 42 * MS, 70 * MS), ("plain-00000000", 30 * MS, 50 * MS)]
    figures = cold_figures(runs, asked, log)
    assert (figures["dane_rounds"], figures["plain_rounds"]) == (3, 1)
    assert (figures["dane_p50_ms"], figures["plain_p50_ms"]) == (60.0, 40.0)
    assert figures["beside_connection"] == 1
    assert (figures["none_lost"], figures["lost"]) == (1, 1)
    assert "none_rounds" not in figures and "dane_more_rounds" not in figures, "nothing is said of what did not arrive"


def test_rates_beside_dead_mail_are_shares_of_the_best_alone() -> None:
    names = ("a", "b", "c")
    alone, beside, ordered = ([Round(sent(name), rate, 1.0)] for name, rate in zip(names, (200, 180, 50), strict=True))
    alone.append(Round(sent("a"), 100, 2.0))
    came = {"a": [10 * MS], "b": [12 * MS, 13 * MS]}
    figures = shares(alone, beside, ordered, came)
    assert (figures["share"], figures["ordered_share"], figures["alone_cpu_ms"]) == (0.9, 0.25, 1.0)
    assert (figures["lost"], figures["duplicates"], figures["latency_max_ms"]) == (1, 1, 2.0)
