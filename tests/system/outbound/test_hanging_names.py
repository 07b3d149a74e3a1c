"""A thousand domains whose name servers do not answer: mail to all others goes as if they were not there."""

from __future__ import annotations

import time
from collections.abc import Iterator

import dns.message
import pytest

from tests.system.house import House
from tests.system.mx import FakeMx
from tests.system.outbound.dns import NameServer
from tests.system.outbound.handing import hand_in, open_to_all
from tests.system.outbound.test_hosts import fresh_address, pytestmark  # noqa: F401 - port 25 for this module too
from tests.system.waiting import wait_for

HANGING = 1000
AT_A_TIME = 100  # recipients of one message
OTHERS = 100


class SomeHang(NameServer):
    """Answers nothing about names below hangs.test, and notes which were asked for."""

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        name = query.question[0].name.to_text(omit_final_dot=True).lower()
        if name.endswith(".hangs.test"):
            self.asked.append((name, ""))
            raise OSError("no answer")
        return super()._answer(query)

    @property
    def hanging(self) -> set[str]:
        return {name for name, _ in list(self.asked) if name.endswith(".hangs.test")}


@pytest.fixture
def names() -> Iterator[SomeHang]:
    with SomeHang() as server:
        yield server


def one_after_the_other(house: House, mx: FakeMx, kind: str) -> list[float]:
    """Seconds from hand-in to delivery, for domains that nobody has asked for yet."""
    took = []
    for n in range(OTHERS):
        count, began = len(mx.messages), time.monotonic()
        hand_in(house, f"bob@{kind}{n}.test")
        wait_for(lambda count=count: len(mx.messages) > count, "mail to another domain")  # type: ignore[misc]
        took.append(time.monotonic() - began)
    return sorted(took)


def shown(took: list[float]) -> str:
    return ", ".join(f"p{part} {took[len(took) * part // 100]:.3f}" for part in (50, 95, 99)) + f", most {took[-1]:.3f}"


def test_mail_to_others_is_not_delayed(house: House, names: SomeHang) -> None:
    address = fresh_address()
    names.host("mx.good.test", address)
    for kind in ("quiet", "busy"):
        for n in range(OTHERS):
            names.mx(f"{kind}{n}.test", "mx.good.test")
    with FakeMx(host=address, port=25) as mx:
        open_to_all(house).control("dnsserver", f"{names.address}\n")
        house.control("tlsdefault", "may\n")
        house.start()
        quiet = one_after_the_other(house, mx, "quiet")
        for start in range(0, HANGING, AT_A_TIME):
            hand_in(house, *(f"bob@d{n}.hangs.test" for n in range(start, start + AT_A_TIME)))
        wait_for(lambda: len(names.hanging) == HANGING, "questions about all of them under way")
        busy = one_after_the_other(house, mx, "busy")
        print(f"\nseconds to deliver: quiet {shown(quiet)}; with {HANGING} domains that hang {shown(busy)}")
        assert len(mx.messages) == 2 * OTHERS
        # Their own fifteen seconds keep nobody else waiting. Closer bounds would measure what else runs here.
        assert busy[OTHERS // 2] < 2.0 and busy[-1] < 10.0
