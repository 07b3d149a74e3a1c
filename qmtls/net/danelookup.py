"""The TLSA records that apply to a host: under which of its names they stand (RFC 7672 section 2.2.3), and whether
they are to be asked for at all.
"""

from __future__ import annotations

from qmtls.net.resolver import Answer, HostAddresses, Resolver
from qmtls.tls.dane import Tlsas, tlsa_owner, tlsas_of
from qmtls.tls.names import MAX_NAME


async def tlsas_of_host(resolver: Resolver, host: HostAddresses, port: int) -> Tlsas:
    """The TLSA records for `port` of a host whose addresses are known. Raises DnsTrouble: then mail waits.

    A host whose addresses are not secure is not asked for TLSA records: many servers of unsigned zones do not even
    answer such questions (section 2.1.3). Where CNAMEs are secure, the target's records come first, then its own.
    """
    found = Tlsas(host.name, port, secure=False)
    for base in await _bases(resolver, host):
        owner = tlsa_owner(base, port)
        # No name can be that long, so there are no such records.
        answer = await resolver.ask(owner, "TLSA") if len(owner) <= MAX_NAME else Answer(False, owner, secure=True)
        found = tlsas_of(base, port, answer.records, secure=answer.secure, malformed=answer.malformed)
        if found.secure and (found.usable or found.unusable):
            return found
    return found


async def _bases(resolver: Resolver, host: HostAddresses) -> tuple[str, ...]:
    if host.secure:
        return tuple(dict.fromkeys((host.canonical, host.name)))
    if host.canonical == host.name:
        return ()
    # The CNAME may be secure although its target is not: then the host's own records count.
    alias = await resolver.ask(host.name, "CNAME")
    return (host.name,) if alias.secure and alias.records else ()
