"""HTTPS for workers, loaded when it is first needed: the client costs 4 MiB, and most workers never fetch or post."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from qmtls.net.resolver import Resolver

if TYPE_CHECKING:
    from qmtls.net.https import PolicyFetcher
    from qmtls.net.httpspost import HttpsPoster


class Web:
    """`fetch` as PolicyFetcher's, `post` as HttpsPoster's."""

    def __init__(self, reactor: Any, resolver: Resolver) -> None:
        self._reactor = reactor
        self._resolver = resolver
        self._fetcher: PolicyFetcher | None = None

    async def fetch(self, domain: str) -> bytes:
        if self._fetcher is None:
            made = import_module("qmtls.net.https").PolicyFetcher(self._reactor, self._resolver)
            self._fetcher = cast("PolicyFetcher", made)
        return await self._fetcher.fetch(domain)

    async def post(self, url: str, body: bytes, media_type: str) -> None:
        poster = cast("HttpsPoster", import_module("qmtls.net.httpspost").HttpsPoster(self._reactor, self._resolver))
        await poster.post(url, body, media_type)
