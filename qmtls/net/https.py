"""The policy text of a domain with MTA-STS, fetched from https://mta-sts.DOMAIN/.well-known/mta-sts.txt (RFC 8461
section 3.3).

HTTP is twisted.web's client; the connection under it is ours: addresses from our resolver, the certificate checked
before anything is sent, against the authorities and for exactly this name (subjectAltName only), and every octet
counted. No redirect is followed, no connection kept. Whatever goes wrong is HttpsTrouble with a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cryptography import x509
from OpenSSL import SSL
from OpenSSL.crypto import X509, X509StoreFlags
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgentEndpointFactory
from zope.interface import implementer

from qmtls.control.live import look_at
from qmtls.net.authorities import system_authorities
from qmtls.net.contexts import base_context, store_of
from qmtls.net.httpsline import HttpsLine, HttpsTrouble
from qmtls.net.resolver import DnsTrouble, Resolver
from qmtls.tls.names import canonical, is_host_name, is_ip
from qmtls.tls.sts import MAX_POLICY

SECONDS = 30.0  # for all of it; RFC 8461 section 3.3 suggests at most a minute
HTTPS_PORT = 443
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
        host = f"mta-sts.{canonical(domain)}"
        if is_ip(domain) or not is_host_name(host):
            raise HttpsTrouble(f"{domain} can have no policy host")
        fetching = Deferred.fromCoroutine(self._fetch(host))
        fetching.addTimeout(SECONDS, self._reactor)
        try:
            return await fetching
        except (DeferredTimeout, CancelledError) as late:
            raise HttpsTrouble(f"https://{host} has not answered within {SECONDS:g} seconds") from late

    async def _fetch(self, host: str) -> bytes:
        try:
            addresses = (await self._resolver.host(host)).addresses
        except DnsTrouble as trouble:
            raise HttpsTrouble(str(trouble)) from trouble
        if not addresses:
            raise HttpsTrouble(f"the policy host {host} has no address")
        line = HttpsLine(self._reactor, self._current(), host, addresses, self._port)
        pool = HTTPConnectionPool(self._reactor, persistent=False)
        agent = Agent.usingEndpointFactory(self._reactor, OneLine(line), pool)
        try:
            # Without the port: the Host field names the host as everybody else would.
            url = f"https://{host}{PATH}".encode("ascii")
            response = await agent.request(b"GET", url, Headers({b"Accept": [b"text/plain"]}))
            return await self._body(response, host)
        except (HttpsTrouble, CancelledError):
            raise
        except Exception as problem:  # what twisted.web and the transport raise has no base of its own
            if any(reason.check(CancelledError) for reason in getattr(problem, "reasons", ())):
                raise CancelledError from problem
            raise line.trouble or HttpsTrouble(
                f"https://{host} broke off, or did not answer in HTTP ({type(problem).__name__})"
            ) from problem
        finally:
            line.abort()

    def _current(self) -> SSL.Context:
        """Authorities are read once, and again when they have changed."""
        if self._anchors is None and (seen := look_at(system_authorities())) != self._seen:
            self._context, self._seen = https_context(None), seen
        return self._context

    async def _body(self, response: Any, host: str) -> bytes:
        if response.code != 200:
            said = " (a redirect is not followed)" if 300 <= response.code < 400 else ""
            raise HttpsTrouble(f"https://{host}{PATH} was answered {response.code}{said}")
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


@implementer(IAgentEndpointFactory)
class OneLine:
    """Every request of an Agent goes over this one connection."""

    def __init__(self, line: HttpsLine) -> None:
        self._line = line

    def endpointForURI(self, uri: object) -> HttpsLine:
        return self._line


def https_context(anchors: Sequence[x509.Certificate] | None) -> SSL.Context:
    """For HTTP/1.1; `anchors` None = the system's authorities."""
    context = base_context(SSL.TLS_CLIENT_METHOD)
    context.set_alpn_protos([b"http/1.1"])
    if anchors is None:
        context.set_default_verify_paths()
    else:
        store = store_of(context)
        for anchor in anchors:
            store.add_cert(X509.from_cryptography(anchor))
        store.set_flags(X509StoreFlags.PARTIAL_CHAIN)
    return context


def _too_long(host: str) -> str:
    return f"https://{host}{PATH} is longer than {MAX_POLICY} octets"
