"""`qmtls probe` as a process of its own, against scripted hosts: what mail would meet, and no mail."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.system.house import House
from tests.system.mx import Do, FakeMx
from tests.system.outbound.test_demands import sha256, spki
from tests.system.pki import Authority


def probe(house: House, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    command = [sys.executable, "-m", "qmtls.cli.main", "--home", str(house.home), "probe", *arguments]
    done = subprocess.run(command, env=house.environment(), capture_output=True, text=True, timeout=120)
    rows = [json.loads(line) for line in done.stdout.splitlines()] if "--json" in arguments else []
    return done.returncode, rows, done.stdout + done.stderr


def test_every_stage_of_a_host_that_is_good(house: House, authority: Authority, tmp_path: Path) -> None:
    server = authority.server("mx.peer.test")
    house.control("ca.crt", authority.pem)
    house.control("tlspolicy", "peer.test secure match=mx.peer.test tafile=ca.crt\n")
    with FakeMx(tls=server.server_context(tmp_path / "server.pem")) as mx:
        house.control("smtproutes", f"peer.test:127.0.0.1:{mx.port}\n")
        status, rows, output = probe(house, "peer.test", "--json")
        assert status == 0, output
        assert [row.get("stage", row["kind"]) for row in rows] == [
            *(
                "DNS",
                "rule",
                "connect",
                "greeting, EHLO",
                "STARTTLS",
                "handshake",
                "EHLO under TLS",
                "verdict",
                "result",
            )
        ]
        handshake = rows[5]
        assert handshake["version"] == "TLSv1.3" and handshake["verified"] is True
        assert handshake["names"] == "mx.peer.test"
        assert handshake["sha256"] == f"sha256:{sha256(server)}"
        assert handshake["spki"] == spki(server)
        assert "control/tlspolicy:1 (peer.test secure)" in rows[1]["text"]
        assert rows[-1] == {
            "kind": "result",
            "ok": True,
            "fate": "delivered",
            "text": f"mail would go to 127.0.0.1:{mx.port}",
        }
        assert not [command for command in mx.commands if "MAIL" in command]

        # The pin that it shows is one that can be pasted.
        house.control("tlspolicy", f"peer.test pin match={handshake['spki']}\n")
        assert probe(house, "peer.test")[0] == 0


BROKEN: Mapping[str, tuple[dict[str, Do], str]] = {
    "STARTTLS is refused": ({"STARTTLS": Do(b"454 4.7.0 later\r\n")}, "STARTTLS was answered 454 4.7.0 later"),
    "hangs up at the hello": ({"handshake": Do(then="close")}, "it hung up after our hello"),
    "no greeting": ({"connect": Do(b"554 5.3.2 go away\r\n")}, "554 5.3.2 go away"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_why_mail_would_wait(house: House, authority: Authority, tmp_path: Path, name: str) -> None:
    script, said = BROKEN[name]
    house.control("tlspolicy", "peer.test encrypt\n")
    with FakeMx(script, tls=authority.server("mx.test").server_context(tmp_path / "server.pem")) as mx:
        house.control("smtproutes", f"peer.test:127.0.0.1:{mx.port}\n")
        status, _, output = probe(house, "peer.test")
    assert status == 1
    assert said in output.splitlines()[-1]
    assert output.splitlines()[-1].startswith("=> mail would wait: ")


def test_a_host_by_name_and_port(house: House, authority: Authority, tmp_path: Path) -> None:
    """At level may mail goes in plaintext on a second connection; the rule is that of the domain that is named."""
    server = authority.server("mx.test").server_context(tmp_path / "server.pem")
    house.control("tlspolicy", "may.test may\nmust.test encrypt\n")
    with FakeMx({"handshake": Do(then="close")}, tls=server) as mx:
        place = f"127.0.0.1:{mx.port}"
        status, _, output = probe(house, place, "--for", "may.test")
        assert status == 0, output
        assert "once more, for plaintext" in output
        assert probe(house, place, "--for", "must.test")[0] == 1


def test_time_is_limited(house: House) -> None:
    with FakeMx({"connect": Do(b"", then="hang")}) as mx:
        status, _, output = probe(house, f"127.0.0.1:{mx.port}", "--timeout", "1")
    assert status == 1
    assert "no answer within 1 seconds" in output


@pytest.mark.parametrize("destination", ["", "a b", "mx.test:99999", "[x"])
def test_wrong_usage(house: House, destination: str) -> None:
    assert probe(house, destination)[0] == 2


def test_mail_that_stays_here(house: House) -> None:
    status, _, output = probe(house, "mx.test")
    assert status == 1
    assert "its mail stays here" in output
