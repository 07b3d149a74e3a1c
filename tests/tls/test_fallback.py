from __future__ import annotations

import pytest

from qmtls.tls.demand import Level, Origin, Policy
from qmtls.tls.fallback import FALLBACK, NoTls, Then, Trouble, hung_up, left_after, then
from qmtls.tls.verdict import judge


def test_the_table_is_whole() -> None:
    assert set(FALLBACK) == set(Level)
    assert all(set(row) == set(Trouble) for row in FALLBACK.values())


@pytest.mark.parametrize("trouble", Trouble)
@pytest.mark.parametrize("level", Level)
def test_plaintext_only_where_the_level_permits_it(level: Level, trouble: Trouble) -> None:
    follows = then(level, trouble)
    assert (follows is Then.NEXT_HOST) == (
        level not in (Level.NONE, Level.MAY) or (level, trouble) == (Level.MAY, Trouble.UNMET)
    )
    verdict = judge(Policy(level, Origin("f", 1)), NoTls(trouble, "words"), "mx.example")
    assert verdict.ok is (follows is not Then.NEXT_HOST)


def test_a_connection_that_broke_is_not_gone_on_with() -> None:
    assert {t for t in Trouble if then(Level.MAY, t) is Then.PLAIN_AGAIN} == {
        Trouble.CUT,
        Trouble.HANDSHAKE,
        Trouble.AFTERWARDS,
    }


def test_what_may_help_is_said() -> None:
    assert "groups=X25519:P-256" in hung_up("a.example").mend and "`a.example LEVEL" in hung_up("a.example").mend
    assert "clientcerts/a.example.pem" in left_after("closed", "a.example", certificate_shown=True).mend
    assert not left_after("closed", "a.example", certificate_shown=False).mend
