"""How many rounds of DNS a cold delivery needs, counted at a name server that takes its time."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path

import dns.flags
import dns.message

from tests.system.house import House
from tests.system.mx import Do, FakeMx
from tests.system.outbound.dns import NameServer
from tests.system.outbound.handing import hand_in, open_to_all
from tests.system.outbound.test_evidence import spki
from tests.system.outbound.test_hosts import fresh_address, pytestmark  # noqa: F401 - port 25 for this module too
from tests.system.pki import Authority

ROUND = 0.3  # seconds for every answer
GREETING = 2.0  # seconds until the host greets


class SlowServer(NameServer):
    """Answers each question after a round, vouches for all answers, and notes when it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[tuple[str, str, float]] = []

    def _reply(self, data: bytes, peer: tuple[str, int]) -> None:
        answer = self._answer(dns.message.from_wire(data))
        answer.flags |= dns.flags.AD
        self.times.append((*self.asked[-1], time.monotonic()))
        threading.Timer(ROUND, self._send, (answer.to_wire(), peer)).start()

    def _send(self, wire: bytes, peer: tuple[str, int]) -> None:
        with suppress(OSError):
            self._socket.sendto(wire, peer)


def test_dane_costs_one_round_beside_the_connection(house: House, authority: Authority, tmp_path: Path) -> None:
    server = authority.server("mx.cold.test")
    address = fresh_address()
    with SlowServer() as names:
        names.mx("cold.test", "mx.cold.test", "mx2.cold.test", "mx3.cold.test")
        for host in ("mx.cold.test", "mx2.cold.test", "mx3.cold.test"):
            names.host(host, address)
            names.records[f"_25._tcp.{host}", "TLSA"] = [f"3 1 1 {spki(server)}"]
        script = {"connect": Do(delay=GREETING)}
        with FakeMx(script, tls=server.server_context(tmp_path / "mx.pem"), host=address, port=25) as mx:
            open_to_all(house).control("dnsserver", f"{names.address}\n")
            house.start()
            hand_in(house, "bob@cold.test")
            (message,) = mx.wait_for_messages()
            house.wait_for_empty_queue()
    assert message.session.tls
    asked = [(name, kind) for name, kind, _ in names.times]
    assert asked[0] == ("cold.test", "MX")
    # All addresses in the second round, the records of the one host that is used in the third.
    assert set(asked[1:-1]) == {(f"{host}.cold.test", kind) for host in ("mx", "mx2", "mx3") for kind in ("A", "AAAA")}
    assert asked[-1] == ("_25._tcp.mx.cold.test", "TLSA") and len(asked) == 8
    when = [moment for *_, moment in names.times]
    assert when[-2] - when[1] < ROUND, "the addresses were asked for one after the other"
    assert when[-1] - when[-2] < ROUND + GREETING / 2, "the records were asked for only once the host had greeted"
