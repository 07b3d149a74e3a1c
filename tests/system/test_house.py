"""The fixtures themselves: a house that starts, takes mail, reloads and stops; a scripted server that records."""

from __future__ import annotations

from pathlib import Path
from signal import SIGALRM

from tests.system.client import SmtpClient, client_context
from tests.system.house import House
from tests.system.mx import Do, FakeMx
from tests.system.pki import Authority


def test_relays_from_a_certificate_to_a_pinned_server(
    house: House, authority: Authority, ca_file: Path, joe_file: Path, tmp_path: Path
) -> None:
    server = authority.server("mx.dest.test")
    with FakeMx({"RCPT": [Do(b"450 4.2.0 later\r\n"), Do()]}, tls=server.server_context(tmp_path / "server.pem")) as mx:
        house.control("smtproutes", f"dest.test:127.0.0.1:{mx.port}\n")
        house.control("dest.test.pem", server.pem)
        house.start()
        house.control("tlsclients", "joe@client.test\n")
        house.reload()
        with SmtpClient(house.port) as client:
            client.starttls(client_context(ca_file, joe_file))
            assert client.mail("joe@client.test", "ann@dest.test").code == 250
        house.wait_for_log("deferred id=.* 450 4.2.0 later")
        (row,) = house.queue()
        assert row["to"] == ["ann@dest.test"]
        house.signal(SIGALRM)
        (message,) = mx.wait_for_messages()
    assert message.session.tls.startswith("TLSv1.")
    assert b"(cert joe@client.test)" in message.content
    house.wait_for_empty_queue()
    assert house.stop() == 0
