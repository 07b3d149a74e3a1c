"""What all tests share: how hypothesis searches.

Failures found by chance must not depend on the speed of the machine, so nothing is timed. Set HYPOTHESIS_PROFILE to
`thorough` for a long search.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("default"), max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """A service sets its umask for good; the next test, and the programs that it starts, get the usual one."""
    os.umask(0o022)
    yield
    os.umask(0o022)
