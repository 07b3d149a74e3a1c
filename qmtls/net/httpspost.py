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
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from qmtls.net.https import OneLine, https_context
from qmtls.net.httpsline import HttpsLine, HttpsTrouble
from qmtls.net.resolver import DnsTrouble, Resolver
from qmtls.tls.names import canonical, is_host_name, is_ip

SECONDS = 60.0  # for all of it
HTTPS_PORT = 443
MAX_URL = 2000  # characters


class HttpsPoster:
    """Hands in octets. `anchors` None = the system's authorities."""

    def __init__(self, reactor: Any, resolver: Resolver, anchors: Sequence[x509.Certificate] | None = None) -> None:
        self._reactor = reactor
        self._resolver = resolver
        self._anchors = anchors

    async def post(self, url: str, body: bytes, media_type: str) -> None:
        """Returns when the host has taken it (2xx). Raises HttpsTrouble."""
        host, port = _place(url)
        posting = Deferred.fromCoroutine(self._post(url, host, port, (body, media_type)))
        posting.addTimeout(SECONDS, self._reactor)
        try:
            await posting
        except (DeferredTimeout, CancelledError) as late:
            raise HttpsTrouble(f"https://{host} has not answered within {SECONDS:g} seconds") from late

    async def _post(self, url: str, host: str, port: int, what: tuple[bytes, str]) -> None:
        try:
            addresses = (await self._resolver.host(host)).addresses
        except DnsTrouble as trouble:
            raise HttpsTrouble(str(trouble)) from trouble
        if not addresses:
            raise HttpsTrouble(f"the host {host} has no address")
        line = HttpsLine(self._reactor, https_context(self._anchors), host, addresses, port)
        pool = HTTPConnectionPool(self._reactor, persistent=False)
        agent = Agent.usingEndpointFactory(self._reactor, OneLine(line), pool)
        headers = Headers({b"Content-Type": [what[1].encode("ascii")], b"User-Agent": [b"qmtls"]})
        try:
            response = await agent.request(b"POST", url.encode("ascii"), headers, _Body(what[0]))
        except (HttpsTrouble, CancelledError):
            raise
        except Exception as problem:  # what twisted.web and the transport raise has no base of its own
            if any(reason.check(CancelledError) for reason in getattr(problem, "reasons", ())):
                raise CancelledError from problem
            said = f"https://{host} broke off, or did not answer in HTTP ({type(problem).__name__})"
            raise line.trouble or HttpsTrouble(said) from problem
        finally:
            line.abort()
        if not 200 <= response.code < 300:
            followed = " (a redirect is not followed)" if 300 <= response.code < 400 else ""
            raise HttpsTrouble(f"https://{host} answered {response.code}{followed}")


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
