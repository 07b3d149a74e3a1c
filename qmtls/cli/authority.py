"""Keys, requests and certificates of a small local CA. Values in, values out: no file is touched here.

Everything that is signed is built anew from the request's subject and alternative names (or from names that the CA
gives instead); nothing else of a request is believed. Serial numbers are random (159 bits). Validity starts an hour
early, for clocks that are behind.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes, PublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS = 3650
LEAF_DAYS = 730
MAX_NAME = 253  # RFC 1035 section 2.3.4, as text
COMMON_NAME_MAX = 64  # RFC 5280 appendix A.1, ub-common-name
RSA_BITS = 3072
RSA_SIZES = (2048, 3072, 4096)  # more makes handshakes slow and nothing safer
RSA_LEAST_BITS = 2048
KEY_KINDS = "ec (P-256), ec:p384, rsa (3072 bits), rsa:2048, rsa:4096, ed25519"
USES = ("client", "server", "both")

_EARLY = timedelta(hours=1)
_HOST = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*", re.ASCII)
_EMAIL = re.compile(r"[!#-'*+/-9=?A-Z^-~.-]+@[A-Za-z0-9.-]+", re.ASCII)

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


class RequestError(Exception):
    """A name, a key or a request that must not be signed; str() says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA that signs. `chain` holds its own certificate and those of its issuers."""

    key: CertificateIssuerPrivateKeyTypes
    chain: tuple[x509.Certificate, ...]

    @property
    def certificate(self) -> x509.Certificate:
        return self.chain[0]

    @property
    def intermediates(self) -> tuple[x509.Certificate, ...]:
        """What a bundle carries behind its leaf: the chain without a self-signed root, which proves nothing there."""
        return tuple(certificate for certificate in self.chain if certificate.issuer != certificate.subject)


@dataclass(frozen=True, slots=True)
class Terms:
    """What the CA decides about a certificate."""

    days: int = LEAF_DAYS
    names: tuple[x509.GeneralName, ...] = ()  # () = those that the request asks for
    use: str = ""  # one of USES; "" = as the names suggest


AS_ASKED = Terms()


def new_key(kind: str = "ec") -> Key:
    """A key of one of KEY_KINDS; RequestError for anything else."""
    match kind.lower().split(":"):
        case ["ec"] | ["ec", "p256"]:
            return ec.generate_private_key(ec.SECP256R1())
        case ["ec", "p384"]:
            return ec.generate_private_key(ec.SECP384R1())
        case ["ed25519"]:
            return ed25519.Ed25519PrivateKey.generate()
        case ["rsa"]:
            return rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
        case ["rsa", bits] if bits in map(str, RSA_SIZES):
            return rsa.generate_private_key(public_exponent=65537, key_size=int(bits))
    raise RequestError(f"{kind!r} is no kind of key that is made here: {KEY_KINDS}")


def kind_of(public: PublicKeyTypes) -> str:
    """The kind of key to make in the place of this one."""
    match public:
        case rsa.RSAPublicKey(key_size=bits):
            return f"rsa:{bits}" if bits in RSA_SIZES else "rsa"
        case ec.EllipticCurvePublicKey(curve=ec.SECP384R1()):
            return "ec:p384"
        case ed25519.Ed25519PublicKey():
            return "ed25519"
    return "ec"


def host_name(text: str) -> str:
    """`text` as a host name in lower case (A-labels, no final dot); RequestError if it is none."""
    name = text.strip().rstrip(".").lower()
    if len(name) > MAX_NAME or not _HOST.fullmatch(name):
        raise RequestError(f"{text!r} is not a host name (letters, digits, hyphens; A-labels for other scripts)")
    return name


def email_address(text: str) -> str:
    """`text` if it can stand in a certificate as an address (RFC 5280 section 4.2.1.6: ASCII)."""
    if not _EMAIL.fullmatch(text):
        raise RequestError(f"{text!r} is not an e-mail address that a certificate can carry")
    return text


def make_ca(name: str, now: datetime | None = None) -> Authority:
    """A self-signed CA for its own mail servers and clients only (no CA below it)."""
    key = new_key()
    now = now or datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:COMMON_NAME_MAX])])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLY)
        .not_valid_after(now + timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(key, (certificate,))


def general_names(hosts: Sequence[str] = (), emails: Sequence[str] = ()) -> tuple[x509.GeneralName, ...]:
    """Host names, IP addresses and e-mail addresses as a certificate carries them; RequestError for others."""
    return (*(_host_or_ip(host) for host in hosts), *(x509.RFC822Name(email_address(email)) for email in emails))


def make_request(key: Key, hosts: Sequence[str] = (), emails: Sequence[str] = ()) -> x509.CertificateSigningRequest:
    """A request for host names (or IP addresses), e-mail addresses, or both; at least one."""
    names = general_names(hosts, emails)
    return _request(key, _subject_of(names), x509.SubjectAlternativeName(names))


def renewal_request(key: Key, certificate: x509.Certificate) -> x509.CertificateSigningRequest:
    """A request for the subject and the names of `certificate`, so that every rule that names them goes on."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return _request(key, certificate.subject, None)
    except ValueError as problem:
        raise RequestError(f"its names cannot be read ({problem})") from None
    return _request(key, certificate.subject, names)


def _request(key: Key, subject: x509.Name, names: x509.SubjectAlternativeName | None) -> x509.CertificateSigningRequest:
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    return builder.sign(key, digest_for(key))


def _subject_of(names: Sequence[x509.GeneralName]) -> x509.Name:
    """The first name, and the first e-mail address."""
    emails = [str(name.value) for name in names if isinstance(name, x509.RFC822Name)]
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, str(names[0].value)[:COMMON_NAME_MAX])]
    attributes += [x509.NameAttribute(NameOID.EMAIL_ADDRESS, email) for email in emails[:1]]
    return x509.Name(attributes)


def sign(
    authority: Authority,
    request: x509.CertificateSigningRequest,
    terms: Terms = AS_ASKED,
    now: datetime | None = None,
) -> x509.Certificate:
    """A leaf for `request`: its subject and alternative names, our extensions. RequestError if it must not be.

    Where the CA names the names, the subject is made of them too: an address in it would be an identity as well.
    """
    _check_request(request)
    names = terms.names or alternative_names(request)
    subject = _subject_of(names) if terms.names else request.subject
    public = request.public_key()
    issuer = authority.certificate
    now = now or datetime.now(UTC)
    end = min(now + timedelta(days=terms.days), issuer.not_valid_after_utc)
    if end <= now:
        raise RequestError(f"the CA itself ended on {issuer.not_valid_after_utc:%Y-%m-%d}")
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLY)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(key_encipherment=isinstance(public, rsa.RSAPublicKey)), critical=True)
        .add_extension(x509.ExtendedKeyUsage(_purposes(names, terms.use)), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=not list(subject))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(issuer_identifier(issuer), critical=False)
        .sign(authority.key, digest_for(authority.key))
    )


def alternative_names(request: x509.CertificateSigningRequest) -> list[x509.GeneralName]:
    """The request's alternative names; where it has none, those of its subject (as `openssl req` has them)."""
    try:
        asked = list(request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        asked = _names_of_subject(request.subject)
    except ValueError as problem:
        raise RequestError(f"its extensions cannot be read ({problem})") from None
    for name in asked:
        match name:
            case x509.DNSName(value=value):
                host_name(value.removeprefix("*."))
            case x509.RFC822Name(value=value):
                email_address(value)
            case x509.IPAddress() | x509.UniformResourceIdentifier():
                pass
            case _:
                raise RequestError(f"an alternative name of kind {type(name).__name__} is not signed here")
    if not asked:
        raise RequestError("it names no host and no e-mail address; make one by `qmtls cert request`")
    return asked


def _names_of_subject(subject: x509.Name) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for attribute in subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        text = str(attribute.value)
        if "." in text and _HOST.fullmatch(text.lower()):
            names.append(x509.DNSName(text.lower()))
    names += [
        x509.RFC822Name(email_address(str(attribute.value)))
        for attribute in subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)
    ]
    return names


def _check_request(request: x509.CertificateSigningRequest) -> None:
    try:
        if not request.is_signature_valid:
            raise InvalidSignature
    except (InvalidSignature, ValueError, TypeError):
        raise RequestError("its signature does not fit its key") from None
    public = request.public_key()
    if isinstance(public, rsa.RSAPublicKey) and public.key_size < RSA_LEAST_BITS:
        raise RequestError(f"its RSA key of {public.key_size} bits is too short; {RSA_LEAST_BITS} are the least")
    if not isinstance(
        public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
    ):
        raise RequestError("its key is of a kind that TLS has no use for")


def _host_or_ip(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(host_name(text))


def issuer_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """What a certificate or a revocation list says of the key that signed it."""
    try:
        identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:  # CAs made by hand often have none
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())  # type: ignore[arg-type]
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _purposes(names: Sequence[x509.GeneralName], use: str) -> list[x509.ObjectIdentifier]:
    """A server also shows its certificate as a client of the next hop; a person's certificate is for clients only."""
    if not use:
        use = "client" if all(isinstance(name, x509.RFC822Name) for name in names) else "both"
    purposes = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}
    return [purpose for name, purpose in purposes.items() if use in (name, "both")]


def digest_for(key: CertificateIssuerPrivateKeyTypes) -> hashes.SHA256 | None:
    """The digest to sign with; keys of the Edwards curves have one of their own."""
    return None if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else hashes.SHA256()


def _usage(*, key_encipherment: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not key_cert_sign,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
