"""Reloads: a good directory replaces the old settings as a whole, a bad one changes nothing and is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent

from qmtls.control.settings import ControlError
from qmtls.service.live import MOST_LOOKS, LiveSettings, load
from tests.control.directory import write
from tests.net import certs
from tests.net.doubles import off_reactor
from tests.net.house import with_tls


class Live:
    def __init__(self, path: Path) -> None:
        self.control = write(path / "control", {"databytes": "1\n"})
        self.said: list[str] = []
        self.held: list[Callable[[], None]] | None = None
        self.live = LiveSettings(self.control, load(self.control), self.off_reactor, self.said.append)
        self.changes: list[int] = []
        self.live.changed = lambda: self.changes.append(self.size)

    def off_reactor(self, work: Callable[[], Any]) -> Deferred[Any]:
        if self.held is None:
            return off_reactor(work)
        done: Deferred[Any] = Deferred()
        result: Deferred[Any] = off_reactor(work)

        def tell() -> None:
            result.chainDeferred(done)

        self.held.append(tell)
        return done

    @property
    def size(self) -> int:
        return self.live.settings().data_bytes

    def look(self) -> None:
        """As often as it takes for a change that is over to count."""
        self.live.look()
        self.live.look()

    def write(self, **files: str | bytes) -> None:
        write(self.control, {name.replace("__", "."): content for name, content in files.items()})


@pytest.fixture
def live(tmp_path: Path) -> Live:
    return Live(tmp_path)


def test_a_change_is_seen(live: Live) -> None:
    before = live.live.current()
    live.look()
    assert live.live.current() is before
    live.write(databytes="22\n")
    live.look()
    assert live.size == 22
    assert live.changes == [22]
    assert live.said == [f"reloaded {live.control}"]
    live.look()
    assert len(live.said) == 1


def test_the_systems_authorities_are_looked_at_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "ca-certificates.crt"
    bundle.write_bytes(b"")
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    live = Live(tmp_path)
    live.look()
    assert not live.said
    before = live.live.current()
    bundle.write_bytes(certs.authority().pem)
    live.look()
    assert live.said == [f"reloaded {live.control}"]
    assert live.live.current().client is not before.client


def test_a_file_that_is_being_written_does_not_count(live: Live) -> None:
    """Between its truncation and its first line it says nothing at all."""
    live.write(tlspolicy="a.example encrypt\n")
    live.look()
    assert live.live.settings().tls.lines
    live.write(tlspolicy="")
    live.live.look()
    assert live.live.changing
    live.write(tlspolicy="a.example encrypt\nb.example encrypt\n")
    live.live.look()
    assert len(live.live.settings().tls.lines) == 1
    live.live.look()
    assert len(live.live.settings().tls.lines) == 2
    assert not live.live.changing
    assert len(live.changes) == 2


def test_a_change_that_is_taken_back_is_none(live: Live) -> None:
    moved = live.control.with_name("moved")
    live.control.rename(moved)
    live.live.look()
    moved.rename(live.control)
    live.look()
    assert not live.said and not live.live.changing


def test_a_directory_that_changes_all_the_time_is_read_all_the_same(live: Live) -> None:
    for n in range(MOST_LOOKS):
        live.write(databytes=f"{10 ** (n + 1)}\n")
        live.live.look()
    assert live.size == 10**MOST_LOOKS


def test_hup_reloads_whatever_it_sees(live: Live) -> None:
    before = live.live.current()
    live.live.reload()
    assert live.live.current() is not before
    assert live.changes == [1]


def test_a_change_between_load_and_start(tmp_path: Path) -> None:
    """What changed while the program started is not missed."""
    control = write(tmp_path / "control", {"databytes": "1\n"})
    first = load(control)
    write(control, {"databytes": "333\n"})
    live = LiveSettings(control, first, off_reactor, lambda line: None)
    live.look()
    live.look()
    assert live.settings().data_bytes == 333


@pytest.mark.parametrize(
    ("files", "word"),
    [
        ({"databytes": "many\n"}, "databytes"),
        ({"servercert__pem": "garbage\n"}, "servercert.pem"),
        ({"tlspolicy": "a.example nonsense\n"}, "tlspolicy:1"),
        ({"tlsclientciphers": "NOSUCHCIPHER\n"}, "tlsclientciphers"),
    ],
)
def test_a_bad_directory_changes_nothing(live: Live, files: dict[str, str | bytes], word: str) -> None:
    before = live.live.current()
    live.write(**files)
    live.look()
    assert live.live.current() is before
    assert not live.changes
    (line,) = live.said
    assert line.startswith("reload failed, the old settings stay: ") and word in line
    live.look()
    assert len(live.said) == 1, "it is said once, not each second"
    for name in files:
        (live.control / name.replace("__", ".")).unlink()
    live.write(databytes="4444\n")
    live.look()
    assert live.size == 4444


def test_every_problem_is_named(live: Live) -> None:
    live.write(databytes="many\n", timeoutsmtpd="long\n")
    live.look()
    assert len(live.said) == 2


def test_a_directory_that_is_gone(live: Live) -> None:
    before = live.live.current()
    moved = live.control.with_name("moved")
    live.control.rename(moved)
    live.look()
    assert live.live.current() is before
    assert len(live.said) == 1
    moved.rename(live.control)
    live.write(databytes="55555\n")
    live.look()
    assert live.size == 55555


def test_an_order_during_a_reload_is_not_lost(live: Live) -> None:
    live.held = []
    live.live.reload()
    live.write(databytes="666\n")
    live.live.reload()
    assert len(live.held) == 1
    live.held.pop(0)()
    assert live.size == 1
    assert len(live.held) == 1
    live.held.pop(0)()
    assert live.size == 666
    assert not live.held
    assert len(live.said) == 1


def test_a_fault_after_a_reload_is_not_the_last_one(live: Live, failures: list[LogEvent]) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    live.live.changed = broken
    live.write(databytes="22\n")
    live.look()
    assert failures
    failures.clear()
    assert live.size == 22
    live.write(databytes="333\n")
    live.look()
    failures.clear()
    assert live.size == 333


def test_a_fault_in_a_reload(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr("qmtls.service.live.compile_control", broken)
        live.live.reload()
    assert "ZeroDivisionError" in live.said[0]
    live.live.reload()
    assert live.changes == [1]


def test_certificates_reload_as_a_pair(tmp_path: Path) -> None:
    live = Live(tmp_path)
    assert not live.live.current().server.available
    live.write(servercert__pem=with_tls()["servercert.pem"])
    live.look()
    assert live.live.current().server.available
    other = certs.authority().leaf("other")
    live.write(servercert__pem=certs.Leaf(other.key, certs.server().cert).bundle)
    live.look()
    assert "does not belong" in live.said[-1]
    assert live.live.current().server.available


def test_the_first_load_fails_as_a_whole(tmp_path: Path) -> None:
    with pytest.raises(ControlError):
        load(write(tmp_path / "control", {"databytes": "many\n"}))


def test_authorities_elsewhere_count_like_the_directory(tmp_path: Path) -> None:
    place = tmp_path / "theirs.crt"
    live = Live(tmp_path)
    live.write(tlspolicy=f"a.example secure tafile={place}\n")
    live.look()
    assert live.said[-1].startswith("reload failed") and "theirs.crt" in live.said[-1]
    place.write_bytes(certs.authority().pem)
    live.look()
    assert live.live.settings().outside == (place,)
    live.look()
    assert len(live.said) == 2
    place.write_bytes(certs.authority("another").pem)
    live.look()
    assert len(live.said) == 3 and live.said[-1].startswith("reloaded")
    assert live.live.settings().tls.lines["a.example"].policy.anchors == (certs.authority("another").cert,)
    live.write(tlspolicy="")
    live.look()
    place.unlink()
    live.look()
    assert live.live.settings().outside == () and len(live.said) == 4
