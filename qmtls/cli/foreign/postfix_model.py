"""A small model of Postfix's SMTP client: which table line holds for a destination, and what it demands.

Rules of postconf(5), transport(5) and TLS_README: policies are looked up by next hop, which is the recipient's domain
or what transport_maps or relayhost say, word for word. Parent domains are tried for bare names only. Written apart from
our own parser, so that one can be held against the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qmtls.cli.foreign.demand import NOBODY, SYSTEM, VERSIONS, Demand, anchors_of
from qmtls.cli.foreign.postfix_files import Entry, Main
from qmtls.lookup import parents
from qmtls.tls.names import is_host_name
from qmtls.tls.pin import PinError, read_certificates

LEVELS = ("none", "may", "encrypt", "fingerprint", "verify", "secure", "dane", "dane-only", "half-dane")
MANDATORY = frozenset(LEVELS) - {"none", "may"}
SMTP_TRANSPORTS = frozenset({"", "smtp", "relay"})
SERVICES = {"smtp": 25, "submission": 587, "smtps": 465, "submissions": 465}
DIGEST_LENGTHS = {"md5": 32, "sha1": 40, "sha224": 56, "sha256": 64, "sha384": 96, "sha512": 128}
SYSTEM_BUNDLES = frozenset(
    {
        *("/etc/ssl/certs", "/etc/ssl/cert.pem", "/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/ca-bundle.pem"),
        *("/etc/pki/tls/certs", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/pki/tls/cert.pem"),
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    }
)
_DEFAULT_MATCH = {"verify": "hostname", "secure": "nexthop:dot-nexthop"}
_MATCH_PARAMETER = {
    "verify": "smtp_tls_verify_cert_match",
    "secure": "smtp_tls_secure_cert_match",
    "fingerprint": "smtp_tls_fingerprint_cert_match",
}
_ALL_VERSIONS = ("sslv2", "sslv3", "tlsv1", "tlsv1.1", "tlsv1.2", "tlsv1.3")
_ATTRIBUTES = frozenset(
    {"ciphers", "protocols", "match", "exclude", "tafile", "servername", "connection_reuse", "enable_rpk"}
)
_TOKEN = re.compile(r"\{[^{}]*\}|[^\s,{}]+")
_SERVER = re.compile(r"\[([^\[\]]+)\](?::([A-Za-z0-9]+))?\Z")


class BadPolicy(ValueError):
    """Postfix would not deliver by this line: it logs a warning and defers mail. str() says why."""


@dataclass(frozen=True, slots=True)
class Server:
    """A next hop in brackets: one host, no MX look-up."""

    host: str
    port: int


def read_server(nexthop: str) -> Server | None:
    """None for a name that is looked up in DNS as a mail domain."""
    found = _SERVER.match(nexthop)
    if found is None:
        return None
    port = found[2] or "25"
    number = SERVICES.get(port.lower(), int(port) if port.isdigit() else 0)
    return Server(found[1].lower().removeprefix("ipv6:"), number) if number else None


@dataclass(frozen=True, slots=True)
class Line:
    """LEVEL and attributes of one table line, names in lower case."""

    level: str
    attributes: tuple[tuple[str, str], ...] = ()

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]

    def one(self, name: str) -> str:
        return next((value for key, value in self.attributes if key == name), "")


def read_line(value: str) -> Line:
    """Raises BadPolicy as Postfix would refuse the line."""
    words = _TOKEN.findall(value)
    if not words:
        raise BadPolicy("the policy is empty")
    level = words[0].lower()
    if level not in LEVELS:
        raise BadPolicy(f"{words[0]} is no level")
    if level == "none":
        return Line(level)  # attributes are passed over where there is no TLS
    attributes = []
    for word in words[1:]:
        name, sign, text = word.strip("{}").partition("=")
        name, text = name.strip().lower(), text.strip()
        if not sign or not text:
            raise BadPolicy(f"{word} is not name=value")
        if name not in _ATTRIBUTES:
            raise BadPolicy(f"{name} is no attribute")
        attributes.append((name, text))
    if any(name == "match" for name, _ in attributes) and level not in _MATCH_PARAMETER:
        raise BadPolicy(f"match= is invalid at level {level}")
    if any(name == "tafile" for name, _ in attributes) and level not in ("verify", "secure"):
        raise BadPolicy(f"tafile= is invalid at level {level}")
    return Line(level, tuple(attributes))


@dataclass(slots=True)
class Postfix:
    """Settings and tables. `policies` and `transports` by key, as read."""

    main: Main = field(default_factory=Main)
    policies: Mapping[str, Entry] = field(default_factory=dict)
    transports: Mapping[str, Entry] = field(default_factory=dict)

    # ------------------------------------------------------------ where mail goes

    def route(self, domain: str) -> tuple[str, str]:
        """(transport, next hop) for a recipient's domain; the next hop is word for word what policies are keyed by."""
        for key in (domain, *parents(domain), "*"):
            entry = self.transports.get(key)
            if entry is None:
                continue
            transport, _, nexthop = entry.value.partition(":")
            if transport or nexthop:
                return transport.strip(), nexthop.strip() or domain
        relayhost = self.main.get("relayhost")
        return "smtp", relayhost or domain

    # ------------------------------------------------------------ what is demanded there

    def policy_of(self, nexthop: str) -> Entry | None:
        """The table line that holds for a next hop; None: the default does."""
        nexthop = nexthop.lower()
        keys = (nexthop, *(parents(nexthop) if is_host_name(nexthop.removeprefix(".")) else ()))
        return next((self.policies[key] for key in keys if key in self.policies), None)

    def decide(self, domain: str, host: str) -> Demand:
        """What must be true before mail for `domain` goes to `host` (an MX host; a route in brackets names its own)."""
        transport, nexthop = self.route(domain)
        if transport not in SMTP_TRANSPORTS:
            return Demand("none", waits=f"not by SMTP, but by the transport {transport}")
        return self.decide_for(nexthop, host)

    def decide_for(self, nexthop: str, host: str) -> Demand:
        server = read_server(nexthop)
        name = server.host if server is not None else nexthop.lower()
        entry = self.policy_of(nexthop)
        try:
            line = read_line(entry.value) if entry is not None else Line(self.default_level())
        except BadPolicy as problem:
            return Demand("none", waits=str(problem))
        return self.demand(line, server.host if server is not None else host, name)

    def default_level(self) -> str:
        """Levels that are set by the parameters of before Postfix 2.3 are still obeyed."""
        level = self.main.get("smtp_tls_security_level").lower()
        if level or not self.main.known:
            return level or "may"
        if self.main.get("smtp_enforce_tls") == "yes":
            return "encrypt" if self.main.get("smtp_tls_enforce_peername") == "no" else "verify"
        return "may" if self.main.get("smtp_use_tls") == "yes" else "none"

    def demand(self, line: Line, host: str, nexthop: str) -> Demand:
        """`nexthop` without brackets and port."""
        level = self.effective_level(line.level)
        if level == "":
            return Demand(line.level, waits="DNSSEC look-ups are switched off (smtp_dns_support_level)")
        try:
            versions = self._versions(line, level)
            match level:
                case "fingerprint":
                    return self._pinned(line, versions)
                case "verify" | "secure":
                    words = {"hostname": host, "nexthop": nexthop, "dot-nexthop": f".{nexthop}"}
                    names = {words.get(word.lower(), word.lower()) for word in self.match(line)}
                    return self._verified(Demand("verify", frozenset(names), versions=versions), line)
        except (BadPolicy, PinError, OSError) as problem:
            return Demand(level, waits=str(problem))
        return Demand(level, versions=versions if level != "none" else frozenset(VERSIONS))

    def effective_level(self, level: str) -> str:
        """What a DANE level comes to without DNSSEC look-ups: "" = mail waits."""
        if level not in ("dane", "dane-only", "half-dane") or not self.main.known:
            return level
        if self.main.get("smtp_dns_support_level") == "dnssec":
            return level
        return "" if level == "dane-only" else "may"

    def match(self, line: Line) -> list[str]:
        """The words of match= in the line, or of the parameter that stands for it."""
        digests = line.level == "fingerprint"
        given = line.all("match") or [self.main.get(_MATCH_PARAMETER[line.level]) or _DEFAULT_MATCH.get(line.level, "")]
        return [word for text in given for word in re.split(r"[|\s,]+" if digests else r"[:|\s,]+", text) if word]

    def digest(self) -> str:
        """The algorithm of fingerprints: "" = main.cf is not known."""
        given = self.main.get("smtp_tls_fingerprint_digest").lower()
        if given or not self.main.known:
            return given
        level = self.main.get("compatibility_level", "0")
        return "sha256" if _at_least_3_6(level) else "md5"

    def _pinned(self, line: Line, versions: frozenset[str]) -> Demand:
        pins = frozenset(word.replace(":", "").lower() for word in self.match(line))
        if not pins:
            return Demand("pin", waits="no fingerprint is given")
        return Demand("pin", pins=pins, versions=versions)

    def _verified(self, demand: Demand, line: Line) -> Demand:
        anchors = self.anchors(line)
        if anchors == NOBODY:
            return Demand("verify", waits="no authority is trusted (smtp_tls_CAfile is empty)")
        return Demand("verify", demand.names, anchors=anchors, versions=demand.versions)

    def anchor_files(self, line: Line) -> list[str] | None:
        """Files of authorities; None = the system's; [] = nobody is trusted. BadPolicy for a directory of them."""
        files = line.all("tafile") or self.main.get("smtp_tls_trust_anchor_file").split()
        if files or not self.main.known:
            return files or None
        bundle, directory = self.main.get("smtp_tls_CAfile"), self.main.get("smtp_tls_CApath")
        if {bundle, directory.rstrip("/")} & SYSTEM_BUNDLES or self.main.get("tls_append_default_CA") == "yes":
            return None
        if directory:
            raise BadPolicy(f"the authorities are in the directory {directory}")
        return [bundle] if bundle else []

    def anchors(self, line: Line) -> frozenset[str]:
        files = self.anchor_files(line)
        if files is None:
            return SYSTEM
        return frozenset().union(*(anchors_of(read_certificates(Path(file).read_bytes())) for file in files))

    def protocols(self, line: Line, level: str) -> str:
        parameter = "smtp_tls_mandatory_protocols" if level in MANDATORY else "smtp_tls_protocols"
        return line.one("protocols") or self.main.get(parameter)

    def _versions(self, line: Line, level: str) -> frozenset[str]:
        allowed = allowed_versions(self.protocols(line, level))
        if not allowed:
            raise BadPolicy("its protocols leave out TLSv1.2 and TLSv1.3")
        return allowed


def allowed_versions(protocols: str) -> frozenset[str]:
    """Of ours, those that a list of Postfix's permits ("!TLSv1, >=TLSv1.2"); BadPolicy for an unknown word."""
    allowed, chosen = set(_ALL_VERSIONS), set()
    for word in filter(None, re.split(r"[\s,:;]+", protocols.lower())):
        sign = word[: 2 if word.startswith((">=", "<=")) else 1 if word.startswith("!") else 0]
        version = word[len(sign) :]
        if version not in _ALL_VERSIONS:
            raise BadPolicy(f"{word} is no protocol version")
        place = _ALL_VERSIONS.index(version)
        if sign == ">=":
            allowed -= set(_ALL_VERSIONS[:place])
        elif sign == "<=":
            allowed -= set(_ALL_VERSIONS[place + 1 :])
        elif sign:
            allowed.discard(version)
        else:
            chosen.add(version)
    usable = allowed & chosen if chosen else allowed
    return frozenset(version for version in VERSIONS if version.lower() in usable)


def _at_least_3_6(level: str) -> bool:
    numbers: Sequence[str] = re.findall(r"\d+", level)[:2]
    return tuple(map(int, numbers)) >= (3, 6)
