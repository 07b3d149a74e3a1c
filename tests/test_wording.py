"""Numbers with what is counted."""

from __future__ import annotations

import pytest

from qmtls.wording import counted


@pytest.mark.parametrize(("number", "said"), [(0, "no key"), (1, "1 key"), (2, "2 keys"), (1000, "1000 keys")])
def test_counted(number: int, said: str) -> None:
    assert counted(number, "key") == said
