"""`dnsserver` and `dnscheck`: which resolvers are asked, whose word on DNSSEC counts, and how that is tried."""

from __future__ import annotations

from dataclasses import dataclass, field

from qmtls.control.lists import BadValueError, ControlFiles, quote
from qmtls.control.values import host, host_and_port
from qmtls.tls.names import is_ip

DNS_PORT = 53


@dataclass(frozen=True, slots=True)
class DnsSettings:
    """`servers` () = the system's. `trusted`: addresses of those whose AD bit counts although they are elsewhere.
    `check`: a name that is signed, and one whose signature is deliberately bad."""

    servers: tuple[tuple[str, int], ...] = ()
    trusted: frozenset[str] = field(default_factory=frozenset)
    check: tuple[str, str] | None = None


def read_dns(files: ControlFiles) -> DnsSettings:
    """Both files."""
    servers, trusted = [], set()
    for line in files.lines("dnsserver") or ():
        with files.collecting(line.origin):
            words = line.text.split()
            if len(words) > 2 or words[1:] not in ([], ["trusted"]):
                raise BadValueError(f"{quote(line.text)} is not understood", "write IP, IP:port or IP:port trusted")
            address, port = host_and_port(words[0], DNS_PORT)
            if not is_ip(address):
                raise BadValueError(f"{quote(address)} is no IP address", "write IP or IP:port, [IPv6]:port")
            servers.append((address, port))
            if words[1:]:
                trusted.add(address)
    return DnsSettings(tuple(servers), frozenset(trusted), _check(files))


def _check(files: ControlFiles) -> tuple[str, str] | None:
    line = files.first_line("dnscheck")
    if line is None:
        return None
    with files.collecting(line.origin):
        words = line.text.split()
        if len(words) != 2:
            mend = "write a name that is signed and one whose signature is bad, such as: example.org dnssec-failed.org"
            raise BadValueError(f"{quote(line.text)} is not two names", mend)
        return host(words[0]), host(words[1])
    return None
