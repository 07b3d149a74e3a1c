"""Mail waits for a peer with a wrong key; the peer gets the right one; a probe finds that, and the mail goes by itself.

Both are services of ours with processes of their own.
"""

from __future__ import annotations

from tests.system.conftest import NewHouse
from tests.system.house import House
from tests.system.outbound.handing import hand_in, open_to_all, wait_for_reasons
from tests.system.pki import Authority, Credential


def peer_with(new_house: NewHouse, credential: Credential) -> House:
    peer = new_house("peer", me="peer.test")
    peer.control("servercert.pem", credential.bundle)
    peer.mailbox("bob")
    return peer.start()


def test_the_peer_mends_its_key(new_house: NewHouse, authority: Authority) -> None:
    right, wrong = authority.server("mx.peer.test"), authority.server("mx.peer.test")
    peer = peer_with(new_house, wrong)
    house = open_to_all(new_house(), f"peer.test:127.0.0.1:{peer.port}")
    house.control("peer.test.pem", right.pem)
    house.control("policyretest", "1\n")
    house.start()
    ids = hand_in(house, "bob@peer.test", contents=[b"Subject: %d\r\n\r\nhello\r\n" % n for n in range(5)])
    rows = wait_for_reasons(house)
    assert "does not pin" in rows["bob@peer.test"]["reason"]
    house.wait_for_log(
        r'retest domain=peer\.test relay=\S+ messages=\d again=\d+s reason="127\.0\.0\.1:\d+ showed a key'
    )
    listing = house.qmtls("queue", "list").stdout
    assert listing.count("waits for TLS since ") == len(ids)
    assert "probes for that without mail, 1s after an attempt and then up to 12s apart" in listing

    peer.control("servercert.pem", right.bundle)
    peer.reload()
    house.wait_for_empty_queue()
    assert len(peer.wait_for_mail(len(ids), "bob")) == len(ids)
    for id in ids:
        house.wait_for_log(f"delivered id={id}")
    said = house.wait_for_log(r"released domain=peer\.test relay=\S+ messages=\d reason=\"(.*)\"")
    assert said[1].startswith("a probe without mail passes at 127.0.0.1:") and said[1].endswith(" pin")
    released = house.log()[: said.end()]
    for id in ids:
        assert f"deferred id={id}" in released and f"delivered id={id}" in house.log()[said.end() :]
    assert "queue retry" not in house.log()


def test_the_pin_is_replaced(new_house: NewHouse, authority: Authority) -> None:
    """By its changed file alone: nobody reloads, nobody says retry, and the first probe would come in an hour."""
    right, wrong = authority.server("mx.peer.test"), authority.server("mx.peer.test")
    peer = peer_with(new_house, right)
    house = open_to_all(new_house(), f"peer.test:127.0.0.1:{peer.port}")
    house.control("peer.test.pem", wrong.pem)
    house.control("policyretest", "3600\n")
    house.start()
    hand_in(house, "bob@peer.test")
    wait_for_reasons(house)
    house.control("peer.test.pem", right.pem)
    assert len(peer.wait_for_mail(1, "bob")) == 1
    house.wait_for_empty_queue()
    house.wait_for_log(r"released domain=peer\.test")
    log = house.log()
    assert log.index("reloaded ") < log.index("released domain=peer.test")
