"""`qmtls check --dns` as users run it."""

from __future__ import annotations

from tests.system.house import House
from tests.system.outbound.dns import NameServer
from tests.system.pki import Authority


def test_a_pin_for_a_host_that_no_record_names(house: House, authority: Authority) -> None:
    server = authority.server("mx.dest.test")
    with NameServer() as dns:
        dns.mx("dest.test", "new.dest.test")
        dns.host("mx.dest.test", "127.0.0.9")
        dns.host("new.dest.test", "127.0.0.10")
        house.control("dnsserver", f"{dns.address}\n")
        house.control("mx.dest.test.pem", server.pem)
        house.control("dest.test.pem", server.pem)
        assert "no MX record" not in house.qmtls("check").stdout
        asked = len(dns.asked)
        said = house.qmtls("check", "--dns").stdout
    assert not asked and "warning: control/mx.dest.test.pem: no MX record of dest.test names mx.dest.test" in said
    assert "warning: control/dest.test.pem" not in said
