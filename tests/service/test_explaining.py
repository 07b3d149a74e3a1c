"""What explaining finds is what delivering would find at that moment."""

from __future__ import annotations

from pathlib import Path

from qmtls.service.explaining import View, look
from qmtls.service.oneshot import Bench
from qmtls.tls.demand import Level
from qmtls.tls.sts import StsMode, StsPolicy
from tests.net.wayout import HOP, WayOut

DOMAIN, MX = "there.example", "mx.there.example"


def test_an_old_policy_that_does_not_name_the_host_is_looked_at_again_as_for_mail(tmp_path: Path) -> None:
    way = WayOut(tmp_path)
    way.names.mail[DOMAIN] = [(10, MX)]
    way.names.hosts[MX] = "192.0.2.25"
    way.policies.known[DOMAIN] = StsPolicy(StsMode.ENFORCE, 86400, ("old.there.example",))
    way.policies.newer[DOMAIN] = StsPolicy(StsMode.ENFORCE, 86400, (MX,))
    dialer = way.dialer
    bench = Bench(way.reactor, way.snapshot, dialer.finder.resolver, dialer.finder, dialer.witness)
    (view,) = way.result(look(bench, HOP))
    assert isinstance(view, View)
    (host,) = view.hosts
    assert (host.demand.level, host.demand.skip, host.demand.names) == (Level.STS, "", (MX,))
