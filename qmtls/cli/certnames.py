"""The names in a certificate or request, and the control lines that name a certificate.

A line is printed only after the service's own reader took it for what the certificate proves: what is pasted works.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import NameOID

from qmtls.control.clientrules import client_rule
from qmtls.control.lists import BadValueError, Line
from qmtls.tls.identities import certificate_emails, chained_identities, own_identities
from qmtls.tls.names import shown_dn
from qmtls.tls.pin import certificate_digest, is_ca, key_pin_text
from qmtls.tls.policy import Origin

Named = x509.Certificate | x509.CertificateSigningRequest


@dataclass(frozen=True, slots=True)
class Names:
    """As they are shown. E-mails are those of the alternative names, else those of the subject."""

    hosts: list[str]
    emails: list[str]
    others: list[str]


def names_in(named: Named) -> Names:
    found = Names([], [], [])
    for name in _alternative_names(named):
        match name:
            case x509.DNSName(value=value):
                found.hosts.append(value)
            case x509.IPAddress(value=address):
                found.hosts.append(str(address))
            case x509.RFC822Name(value=value):
                found.emails.append(value)
            case _:
                found.others.append(str(name.value))
    if not found.emails:
        subject = named.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)
        found.emails.extend(str(attribute.value) for attribute in subject)
    return found


def client_lines(certificate: x509.Certificate) -> list[str]:
    """Lines for `tlsclients`, each of which this certificate meets: those that no CA is needed for are the spki: and
    sha256: ones. None for a CA's certificate."""
    if is_ca(certificate):
        return []
    proved = own_identities(certificate) | chained_identities(certificate)
    return [line for line in dict.fromkeys(_candidates(certificate)) if _identity(line) in proved]


def policy_lines(certificate: x509.Certificate) -> list[str]:
    """Lines for `tlspolicy`. Those name a recipient domain; a host name of the certificate is the best guess at it."""
    if is_ca(certificate):
        return []
    return [
        f"{host.lower()} pin match={key_pin_text(certificate)}"
        for host in names_in(certificate).hosts
        if "." in host and not host.startswith("*.") and host.rpartition(".")[2].isalpha()
    ]


def _candidates(certificate: x509.Certificate) -> Iterator[str]:
    yield from certificate_emails(certificate)
    yield key_pin_text(certificate)
    yield "sha256:" + certificate_digest(certificate).hex()
    yield f'dn:"{shown_dn(certificate.subject)}"'
    for name in _alternative_names(certificate):
        match name:
            case x509.DNSName(value=value):
                yield f"san:dns:{value}"
            case x509.UniformResourceIdentifier(value=value):
                yield f"san:uri:{value}"
            case x509.IPAddress(value=address):
                yield f"san:ip:{address}"


def _identity(line: str) -> tuple[str, str] | None:
    try:
        return client_rule(Line(line, Origin("control/tlsclients"))).identity
    except BadValueError:
        return None


def _alternative_names(named: Named) -> Iterable[x509.GeneralName]:
    try:
        return named.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()  # unreadable names are as good as none: they match nothing
