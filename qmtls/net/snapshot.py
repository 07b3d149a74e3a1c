"""One state of the control directory with all that was made of it: sessions keep theirs for their lifetime."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from qmtls.control.settings import Settings
from qmtls.net.contexts import ClientTls
from qmtls.net.servertls import ServerTls
from qmtls.smtp.server import ServerConfig


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Settings, and the OpenSSL contexts and session constants that follow from them."""

    settings: Settings
    server: ServerTls
    client: ClientTls
    server_config: ServerConfig
    seen: Hashable = None  # the directory's fingerprint from before it was read


def make_snapshot(settings: Settings, seen: Hashable = None) -> Snapshot:
    """Everything at once, so that a reload succeeds or fails as a whole. Raises ContextError."""
    server, client = ServerTls(settings), ClientTls(settings)
    config = ServerConfig(
        host=settings.me, greeting=f"{settings.greeting} ESMTP", max_size=settings.data_bytes, starttls=server.available
    )
    return Snapshot(settings, server, client, config, seen)
