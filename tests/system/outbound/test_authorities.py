"""The system's certificate authorities change under a running service: no signal is needed."""

from __future__ import annotations

from pathlib import Path

from tests.system.house import House
from tests.system.mx import FakeMx
from tests.system.outbound.handing import hand_in, open_to_all, wait_for_reasons
from tests.system.pki import Authority


def test_a_new_authority_is_believed(house: House, authority: Authority, tmp_path: Path) -> None:
    bundle = tmp_path / "ca-certificates.crt"
    bundle.write_bytes(Authority().pem)
    server = authority.server("127.0.0.1")
    with FakeMx(tls=server.server_context(tmp_path / "server.pem")) as mx:
        open_to_all(house, f"peer.test:127.0.0.1:{mx.port}").control("tlspolicy", "peer.test verify\n")
        house.start(environment={"SSL_CERT_FILE": str(bundle)})
        hand_in(house, "bob@peer.test")
        assert "cannot be trusted" in wait_for_reasons(house)["bob@peer.test"]["reason"]
        before = len(house.log())
        new = bundle.with_suffix(".new")
        new.write_bytes(authority.pem)
        new.rename(bundle)
        house.wait_for_log("reloaded ", after=before)
        mx.wait_for_messages()
    house.wait_for_empty_queue()
