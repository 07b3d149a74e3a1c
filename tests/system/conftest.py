"""What whole-program tests share. Everything below this directory carries the marker `system`.

The log of each service that a test (or its module) started is shown when the test fails.
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.client import client_context
from tests.system.house import House
from tests.system.pki import Authority, Credential

HERE = Path(__file__).parent
HOUSES: pytest.StashKey[list[House]] = pytest.StashKey()

NewHouse = Callable[..., House]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.system)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.failed:
        houses = [house for node in item.listchain() for house in node.stash.get(HOUSES, [])]
        report.sections += [(f"log of {house.me}", house.report()) for house in houses]
    return report  # type: ignore[return-value]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Foreign servers, and ours without its privileges, reach their files as users of their own. pytest's directories
    are its user's alone, and it sees to that again whenever another session of it starts."""
    with tempfile.TemporaryDirectory(prefix="qmtls-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o711)
        yield directory


@pytest.fixture(scope="session")
def authority() -> Authority:
    """The CA that the houses' servers and clients have."""
    return Authority()


def _houses(node: pytest.Item | pytest.Collector, path: Path, authority: Authority) -> Iterator[NewHouse]:
    houses = node.stash[HOUSES] = []

    def new(name: str = "home", *, me: str = "mx.test", bare: bool = False) -> House:
        houses.append(House(path / name, authority, me=me, bare=bare))
        return houses[-1]

    yield new
    for house in houses:
        house.kill()


@pytest.fixture
def new_house(request: pytest.FixtureRequest, tmp_path: Path, authority: Authority) -> Iterator[NewHouse]:
    """new_house("alpha", me="alpha.test"): a home below tmp_path, not started; ended with the test."""
    yield from _houses(request.node, tmp_path, authority)


@pytest.fixture
def house(new_house: NewHouse) -> House:
    """One home, not started."""
    return new_house()


@pytest.fixture(scope="module")
def standing_house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[House]:
    """One home for all tests of a module, not started: a fixture of the module does that."""
    for new in _houses(request.node, tmp_path_factory.mktemp("standing"), authority):
        yield new()


@pytest.fixture(scope="session")
def ca_file(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    path.write_bytes(authority.pem)
    return path


@pytest.fixture(scope="session")
def joe(authority: Authority) -> Credential:
    """joe@client.test: a client that an e-mail rule can name."""
    return authority.client("joe@client.test")


@pytest.fixture(scope="session")
def joe_file(tmp_path_factory: pytest.TempPathFactory, joe: Credential) -> Path:
    return joe.write(tmp_path_factory.mktemp("joe") / "joe.pem")


@pytest.fixture(scope="session")
def anonymous(ca_file: Path) -> ssl.SSLContext:
    """A client's TLS context without a certificate."""
    return client_context(ca_file)


@pytest.fixture(scope="session")
def as_joe(ca_file: Path, joe_file: Path) -> ssl.SSLContext:
    """A client's TLS context with joe's certificate."""
    return client_context(ca_file, joe_file)
