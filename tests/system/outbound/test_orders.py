"""What an operator orders reaches a running service, by one worker as by several; and holds over kills."""

from __future__ import annotations

import pytest

from tests.system.house import House
from tests.system.mx import Do, FakeMx
from tests.system.outbound.handing import hand_in, open_to_all
from tests.system.waiting import wait_for

LATER = Do(b"451 4.2.1 later\r\n")


def one(house: House, id: str) -> dict[str, object]:
    return next(row for row in house.queue() if row["id"] == id)


@pytest.mark.parametrize("workers", [1, 2])
def test_hold_release_and_return(house: House, workers: int) -> None:
    with FakeMx({"RCPT": LATER}) as mx:
        open_to_all(house, f"dest.test:127.0.0.1:{mx.port}").start("--workers", str(workers))
        first, second = (
            hand_in(house, f"{name}@dest.test", sender="postmaster@mx.test")[0] for name in ("bob", "carol")
        )
        wait_for(lambda: all(row["attempts"] == 1 for row in house.queue()), "both tried")
        house.qmtls("queue", "hold", first, "--note", "until noon")
        house.qmtls("queue", "retry", "--domain", "dest.test", "--yes")
        wait_for(lambda: one(house, second)["attempts"] == 2, "the other one is tried again")
        assert one(house, first)["held"] is True
        assert one(house, first)["attempts"] == 1
        assert "until noon" in str(one(house, first)["reason"])

        house.kill()
        house.start("--workers", str(workers))
        house.qmtls("queue", "retry", second)
        wait_for(lambda: one(house, second)["attempts"] == 3, "after a kill as well")
        assert one(house, first)["held"] is True

        house.qmtls("queue", "bounce", second, "--note", "try the telephone")
        (report,) = house.wait_for_mail()
        assert b"try the telephone" in report and b"carol@dest.test" in report
        house.qmtls("queue", "release", first)
        wait_for(lambda: one(house, first)["attempts"] == 2, "the released one is tried")
    assert [row["id"] for row in house.queue()] == [first]


def test_a_pause_and_its_end(house: House) -> None:
    with FakeMx() as mx:
        open_to_all(house, f"dest.test:127.0.0.1:{mx.port}").start()
        house.qmtls("queue", "pause", "dest.test", "--reason", "they move")
        house.wait_for_log("reloaded")
        (id,) = hand_in(house, "bob@dest.test")
        house.wait_for_log(f'held id={id} reason="held by control/holds:1 .destination=dest.test.: they move"')
        assert one(house, id)["held"] is True
        house.kill()
        house.start()
        wait_for(lambda: house.log().count(f"held id={id}") == 2, "held after a kill")
        assert not mx.messages
        house.qmtls("queue", "resume", "dest.test")
        house.wait_for_empty_queue()
        assert len(mx.messages) == 1


def test_mail_is_returned_while_the_service_is_down(house: House) -> None:
    with FakeMx({"RCPT": LATER}) as mx:
        open_to_all(house, f"dest.test:127.0.0.1:{mx.port}").start()
        (id,) = hand_in(house, "bob@dest.test", sender="postmaster@mx.test")
        wait_for(lambda: one(house, id)["attempts"] == 1, "tried")
        assert house.stop() == 0
        house.qmtls("queue", "bounce", id)
        assert id not in [row["id"] for row in house.queue()]
        house.start()
        (report,) = house.wait_for_mail()
    assert b"bob@dest.test" in report
    house.wait_for_empty_queue()


def test_mail_made_while_the_service_is_down(house: House) -> None:
    session = b"EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<postmaster>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\nQUIT\r\n"
    assert "250 2.0.0 ok" in house.qmtls("sendmail", "-bs", stdin=session).stdout
    house.qmtls("sendmail", "-t", "-i", stdin=b"To: postmaster\r\n\r\nhello\r\n")
    house.start()
    assert len(house.wait_for_mail(2)) == 2
