"""One state of the control directory with all that was made of it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from qmtls.control.settings import Settings
from qmtls.limits import Limits
from qmtls.net.contexts import ClientTls
from qmtls.net.doors import Role
from qmtls.net.servertls import ServerTls
from qmtls.smtp.server import ServerConfig


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Settings, and the OpenSSL contexts and session constants that follow from them."""

    settings: Settings
    server: ServerTls
    client: ClientTls
    seen: Hashable = None  # the directory's fingerprint from before it was read
    _configs: dict[tuple[Role, int, int], ServerConfig] = field(default_factory=dict, repr=False)

    def config(self, role: Role, limits: Limits) -> ServerConfig:
        """What a session needs to know of the server; made once for each role and limits that occur."""
        key = (role, limits.recipients, limits.errors)
        found = self._configs.get(key)
        if found is None:
            settings = self.settings
            found = self._configs[key] = ServerConfig(
                host=settings.me,
                greeting=f"{settings.greeting} ESMTP",
                max_size=settings.data_bytes,
                starttls=self.server.available and role is not Role.SMTPS,
                tls_first=role is Role.SMTPS,
                submission=role is Role.SUBMISSION,
                max_recipients=limits.recipients,
                max_errors=limits.errors,
            )
        return found


def make_snapshot(settings: Settings, seen: Hashable = None) -> Snapshot:
    """Everything at once, so that a reload succeeds or fails as a whole. Raises ContextError."""
    return Snapshot(settings, ServerTls(settings), ClientTls(settings), seen)
