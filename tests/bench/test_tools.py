"""The benchmark's audit must see what is lost or doubled; its two programs must understand each other."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from bench import certificates
from bench.tools import HeldSessions, Sent, Sink, ToolError, Tools, arguments, audit, build, quantile, run_load

MS = 1_000_000


def sent(*accepted: str, unknown: str = "") -> Sent:
    times = dict.fromkeys(accepted, 5 * MS)
    return Sent(dict.fromkeys(accepted, 1 * MS), times, frozenset(unknown), 0, 0, 0, first=0, last=1_000 * MS)


def test_audit_of_a_clean_run() -> None:
    checked = audit(sent("a", "b"), {"a": [6 * MS], "b": [9 * MS], "warm-1": [1]})
    assert (checked.lost, checked.duplicates, checked.latencies_ms) == (0, 0, [1.0, 4.0])


def test_audit_tells_lost_from_doubled() -> None:
    checked = audit(sent("a", "b", "c"), {"a": [6 * MS, 7 * MS, 8 * MS], "b": [9 * MS]})
    assert (checked.lost, checked.duplicates) == (1, 2)


def test_mail_of_unknown_fate_is_not_lost_but_may_be_doubled() -> None:
    assert audit(sent("a", unknown="xy"), {"a": [6 * MS], "x": [7 * MS]}).duplicates == 0
    assert audit(sent("a", unknown="xy"), {"a": [6 * MS], "x": [7 * MS, 8 * MS]}).duplicates == 1
    assert audit(sent("a", unknown="xy"), {"a": [6 * MS]}).lost == 0


def test_rate_and_transactions() -> None:
    run = sent("a", "b")
    assert run.rate == pytest.approx(2.0)
    assert run.transactions_ms() == [4.0, 4.0]


@pytest.mark.parametrize(("part", "value"), [(0.5, 2.0), (0.51, 3.0), (0.99, 4.0), (1.0, 4.0), (0.0, 1.0)])
def test_quantile(part: float, value: float) -> None:
    assert quantile([4.0, 1.0, 3.0, 2.0], part) == value


def test_arguments_leave_out_what_is_off() -> None:
    assert arguments({"port": 25, "tls": True, "hold": False, "cert": None, "rate": 0}) == ["port=25", "tls=1"]


def test_a_missing_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(ToolError, match=r"C compiler .* is needed"):
        build(tmp_path)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    headers = ["cc", "-E", "-include", "openssl/ssl.h", "-x", "c", os.devnull]
    if subprocess.run(headers, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode != 0:
        pytest.skip("no headers of OpenSSL")
    return build(tmp_path_factory.mktemp("bin"))


@pytest.mark.system
@pytest.mark.parametrize("tls", [False, True])
def test_what_the_load_client_sends_the_sink_counts(tools: Tools, tmp_path: Path, tls: bool) -> None:
    known, port = certificates.make(tmp_path), free_port()
    secure = {"tls": True, "pin": known.sink.fingerprint} if tls else {}
    shown = {"cert": known.sink.cert, "key": known.sink.key} if tls else {}
    with Sink(tools, tmp_path / "sink.log", port=port, recipients=tmp_path / "paths", **shown) as sink:
        small = run_load(
            tools, tmp_path / "small", port=port, messages=50, domains=3, sessions=5, per=3, prefix="s", **secure
        )
        large = run_load(tools, tmp_path / "large", port=port, messages=2, size=3_000_000, prefix="l", **secure)
        with HeldSessions(tools, port=port, sessions=20, **secure) as sessions:
            counts = sink.counts()
    checked = [audit(run, sink.arrivals()) for run in (small, large)]
    assert [(run.lost, run.duplicates, len(run.latencies_ms)) for run in checked] == [(0, 0, 50), (0, 0, 2)]
    assert (counts.arrived, sessions.held, bool(counts.handshakes)) == (52, 20, tls)
    assert counts.octets >= 2 * 3_000_000 + 50 * 4096
    assert all(connected < at for _, connected, at in sink.log())
    paths = sorted([f"<r{n}@d{n % 3}.live.test>" for n in range(50)] + [f"<r{n}@live.test>" for n in range(2)])
    assert sorted((tmp_path / "paths").read_text().split()) == paths


@pytest.mark.system
def test_the_load_client_holds_to_its_pin(tools: Tools, tmp_path: Path) -> None:
    known, port = certificates.make(tmp_path), free_port()
    pin = known.client.fingerprint
    with (
        Sink(tools, tmp_path / "sink.log", port=port, cert=known.sink.cert, key=known.sink.key),
        pytest.raises(ToolError, match="not the pinned one"),
    ):
        run_load(tools, tmp_path / "log", port=port, messages=1, tls=True, pin=pin)
