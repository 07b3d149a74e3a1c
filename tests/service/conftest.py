"""As for the adapters: own clock under Twisted's TLS, and no failure goes unseen."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.net.conftest import failures, frozen, own_clock, quiet  # noqa: F401
from tests.service.office import Office


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)
