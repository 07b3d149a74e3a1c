"""The policy text of a domain with MTA-STS, fetched from https://mta-sts.DOMAIN/.well-known/mta-sts.txt (RFC 8461
section 3.3).

By `httpsexchange`: the certificate is checked for exactly this name (subjectAltName only), no redirect is followed.
Whatever goes wrong is HttpsTrouble with a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cryptography import x509
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH

from qmtls.control.live import look_at
from qmtls.net.authorities import system_authorities
from qmtls.net.httpsexchange import HTTPS_PORT, HttpsHost, https_context, refusal
from qmtls.net.httpsline import HttpsTrouble
from qmtls.net.resolver import Resolver
from qmtls.tls.names import canonical, is_host_name, is_ip
from qmtls.tls.sts import MAX_POLICY

SECONDS = 30.0  # for all of it; RFC 8461 section 3.3 suggests at most a minute
PATH = "/.well-known/mta-sts.txt"


class PolicyFetcher:
    """Fetches policies. `anchors` None = the system's authorities."""

    def __init__(
        self,
        reactor: Any,
        resolver: Resolver,
        anchors: Sequence[x509.Certificate] | None = None,
        port: int = HTTPS_PORT,
    ) -> None:
        self._reactor = reactor
        self._resolver = resolver
        self._anchors = anchors
        self._seen = look_at(system_authorities())  # first: what changes meanwhile is a change
        self._context = https_context(anchors)
        self._port = port

    async def fetch(self, domain: str) -> bytes:
        """The policy's octets. Raises HttpsTrouble."""
        name = f"mta-sts.{canonical(domain)}"
        if is_ip(domain) or not is_host_name(name):
            raise HttpsTrouble(f"{domain} can have no policy host")
        host = HttpsHost(self._reactor, self._resolver, self._current(), name, self._port)

        async def talk(agent: Agent) -> bytes:
            # Without the port: the Host field names the host as everybody else would.
            url = f"https://{name}{PATH}".encode("ascii")
            response = await agent.request(b"GET", url, Headers({b"Accept": [b"text/plain"]}))
            return await _policy(response, name)

        return await host.exchange(talk, SECONDS)

    def _current(self) -> SSL.Context:
        """Authorities are read once, and again when they have changed."""
        if self._anchors is None and (seen := look_at(system_authorities())) != self._seen:
            self._context, self._seen = https_context(None), seen
        return self._context


async def _policy(response: Any, host: str) -> bytes:
    """The body of an answer that may be a policy. Raises HttpsTrouble."""
    if response.code != 200:
        raise HttpsTrouble(f"https://{host}{PATH} was {refusal(response.code)}")
    kinds = response.headers.getRawHeaders(b"content-type", [])
    if len(kinds) != 1 or kinds[0].partition(b";")[0].strip().lower() != b"text/plain":
        raise HttpsTrouble(f"https://{host}{PATH} is not text/plain")
    if response.length is not UNKNOWN_LENGTH and response.length > MAX_POLICY:
        raise HttpsTrouble(_too_long(host))
    body = _Body(host)
    response.deliverBody(body)
    return await body.complete


class _Body(Protocol):
    """Collects at most as much as a policy may have."""

    def __init__(self, host: str) -> None:
        self.complete: Deferred[bytes] = Deferred()
        self._host = host
        self._parts = bytearray()

    def dataReceived(self, data: bytes) -> None:
        self._parts += data
        if len(self._parts) > MAX_POLICY:
            self._end(HttpsTrouble(_too_long(self._host)))

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        if reason.check(ResponseDone):
            self._end(bytes(self._parts))
        else:  # also PotentialDataLoss: an end that only the close of the connection marks may be anybody's
            self._end(HttpsTrouble(f"https://{self._host} broke off within its answer"))

    def _end(self, result: bytes | HttpsTrouble) -> None:
        if self.complete.called:
            return
        if isinstance(result, HttpsTrouble):
            self.complete.errback(result)
        else:
            self.complete.callback(result)


def _too_long(host: str) -> str:
    return f"https://{host}{PATH} is longer than {MAX_POLICY} octets"
