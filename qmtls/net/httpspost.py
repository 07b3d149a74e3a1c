"""One HTTPS POST, as TLS reports are handed in (RFC 8460 section 5.4).

The certificate must be good for the host: the RFC permits to pass over that, but the address comes from anybody's
DNS, and without the check it could name any service inside our network. No redirect is followed; of the answer only
its status counts. Whatever goes wrong is HttpsTrouble with a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from twisted.internet.defer import Deferred, succeed
from twisted.web.client import Agent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from qmtls.net.httpsexchange import HTTPS_PORT, HttpsHost, https_context, refusal
from qmtls.net.httpsline import HttpsTrouble
from qmtls.net.resolver import Resolver
from qmtls.tls.names import canonical, is_host_name, is_ip

SECONDS = 60.0  # for all of it
MAX_URL = 2000  # characters


class HttpsPoster:
    """Hands in octets. `anchors` None = the system's authorities."""

    def __init__(self, reactor: Any, resolver: Resolver, anchors: Sequence[x509.Certificate] | None = None) -> None:
        self._reactor = reactor
        self._resolver = resolver
        self._anchors = anchors

    async def post(self, url: str, body: bytes, media_type: str) -> None:
        """Returns when the host has taken it (2xx). Raises HttpsTrouble."""
        name, port = _place(url)
        host = HttpsHost(self._reactor, self._resolver, https_context(self._anchors), name, port)
        headers = Headers({b"Content-Type": [media_type.encode("ascii")], b"User-Agent": [b"qmtls"]})

        async def talk(agent: Agent) -> None:
            response: Any = await agent.request(b"POST", url.encode("ascii"), headers, _Body(body))
            if not 200 <= response.code < 300:
                raise HttpsTrouble(f"https://{name} {refusal(response.code)}")

        await host.exchange(talk, SECONDS)


def _place(url: str) -> tuple[str, int]:
    """Host and port. HttpsTrouble."""
    try:
        parts = urlsplit(url)
        host, port = canonical(parts.hostname or ""), parts.port or HTTPS_PORT
    except ValueError as problem:
        raise HttpsTrouble("the address is no URL") from problem
    usable = parts.scheme == "https" and len(url) <= MAX_URL and url.isascii() and url.isprintable()
    if not usable or " " in url or "@" in parts.netloc or is_ip(host) or not is_host_name(host):
        raise HttpsTrouble("the address is no https: URL of a host")
    return host, port


@implementer(IBodyProducer)
class _Body:
    """All of it in one write: reports are small."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self._data)
        return succeed(None)

    def stopProducing(self) -> None:
        """Nothing goes on."""

    def pauseProducing(self) -> None:
        """Nothing goes on."""

    def resumeProducing(self) -> None:
        """Nothing goes on."""
