"""Cached MTA-STS policies on the disk: HOME/state/sts/DOMAIN.json, one line of JSON each, shared by all workers.

A file is replaced whole, synced before it takes its name; a reader sees the old or the new one. What cannot be read
counts as not there, so the worst a broken file costs is a fetch. Blocking: called off the reactor, and by commands.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from qmtls.tls.names import canonical, is_host_name, is_ip
from qmtls.tls.sts import MAX_JSON, CachedPolicy, StsError, cached_from_json

SUFFIX = ".json"
MAX_STEM = 200  # octets of a file's name before the suffix; file systems end at 255
_HALF_WRITTEN = ".new-"


class StsFiles:
    """The directory; made when first written to."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, domain: str) -> Path:
        """Where the policy of a canonical domain lies. ValueError for what is no domain: no name leads elsewhere."""
        if not is_domain(domain):
            raise ValueError(f"{domain!r} is no domain")
        # A label ends at 63 octets, so no domain is called like the digest of another.
        stem = domain if len(domain) <= MAX_STEM else "sha256-" + sha256(domain.encode("ascii")).hexdigest()
        return self._directory / (stem + SUFFIX)

    def read(self, domain: str) -> CachedPolicy | None:
        """The cached policy, however old; None if there is none that can be read."""
        found = _read(self.path(domain))
        return found if found is not None and found.domain == domain else None

    def write(self, cached: CachedPolicy) -> None:
        """Raises OSError."""
        path = self.path(cached.domain)
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=_HALF_WRITTEN, dir=self._directory)
        try:
            with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123 - a descriptor, not a path
                file.write(cached.to_json() + "\n")
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise

    def remove(self, domain: str) -> None:
        """Raises OSError, except when it is not there."""
        self.path(domain).unlink(missing_ok=True)

    def all(self) -> Iterator[CachedPolicy]:
        """Every policy that can be read."""
        with suppress(OSError):
            for path in sorted(self._directory.iterdir()):
                found = _read(path) if path.suffix == SUFFIX else None
                if found is not None and self.path(found.domain) == path:
                    yield found


def is_domain(domain: str) -> bool:
    """True for a canonical domain that may have a policy: no address, no literal, nothing odd."""
    return is_host_name(domain) and not is_ip(domain)


def canonical_domain(domain: str) -> str:
    """The domain as files and questions name it; "" for what can have no policy."""
    name = canonical(domain)
    return name if is_domain(name) else ""


def _read(path: Path) -> CachedPolicy | None:
    try:
        with path.open("rb") as file:
            return cached_from_json(file.read(MAX_JSON + 1))
    except (OSError, StsError):
        return None
