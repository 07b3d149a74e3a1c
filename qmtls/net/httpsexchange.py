"""What one HTTPS host is asked and answers, over one connection: for policies (`https`) and reports (`httpspost`).

HTTP is twisted.web's client; the connection under it is `httpsline`'s, which checks the certificate before anything
is sent and counts every octet. Nothing is kept for another time. Whatever goes wrong is HttpsTrouble with a sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from cryptography import x509
from OpenSSL import SSL
from OpenSSL.crypto import X509, X509StoreFlags
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from qmtls.net.contexts import base_context, store_of
from qmtls.net.httpsline import HttpsLine, HttpsTrouble
from qmtls.net.resolver import DnsTrouble, Resolver

HTTPS_PORT = 443

T = TypeVar("T")
Talk = Callable[[Agent], Coroutine[Any, Any, T]]


@dataclass(frozen=True, slots=True)
class HttpsHost:
    """Whom to ask, and what the connection is made with. `name` is canonical, and no address."""

    reactor: Any
    resolver: Resolver
    context: SSL.Context
    name: str
    port: int = HTTPS_PORT

    async def exchange(self, talk: Talk[T], seconds: float) -> T:
        """What `talk` returns: it makes its request by the Agent given, within `seconds` for all. HttpsTrouble."""
        exchanging = Deferred.fromCoroutine(self._exchange(talk))
        exchanging.addTimeout(seconds, self.reactor)
        try:
            return await exchanging
        except (DeferredTimeout, CancelledError) as late:
            raise HttpsTrouble(f"https://{self.name} has not answered within {seconds:g} seconds") from late

    async def _exchange(self, talk: Talk[T]) -> T:
        line = HttpsLine(self.reactor, self.context, self.name, await self._addresses(), self.port)
        pool = HTTPConnectionPool(self.reactor, persistent=False)
        try:
            return await talk(Agent.usingEndpointFactory(self.reactor, _OneLine(line), pool))
        except (HttpsTrouble, CancelledError):
            raise
        except Exception as problem:  # what twisted.web and the transport raise has no base of its own
            if any(reason.check(CancelledError) for reason in getattr(problem, "reasons", ())):
                raise CancelledError from problem
            said = f"https://{self.name} broke off, or did not answer in HTTP ({type(problem).__name__})"
            raise line.trouble or HttpsTrouble(said) from problem
        finally:
            line.abort()

    async def _addresses(self) -> Sequence[str]:
        try:
            addresses = (await self.resolver.host(self.name)).addresses
        except DnsTrouble as trouble:
            raise HttpsTrouble(str(trouble)) from trouble
        if not addresses:
            raise HttpsTrouble(f"the host {self.name} has no address")
        return addresses


def refusal(code: int) -> str:
    """How a sentence about an answer that is not 2xx goes on."""
    return f"answered {code}{' (a redirect is not followed)' if 300 <= code < 400 else ''}"


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


@implementer(IAgentEndpointFactory)
class _OneLine:
    """Every request of an Agent goes over this one connection."""

    def __init__(self, line: HttpsLine) -> None:
        self._line = line

    def endpointForURI(self, uri: object) -> HttpsLine:
        return self._line
