"""Certificates as clients show them in real handshakes, good, odd and bad: none of them makes the handshake fail, and
the refusal says what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID
from OpenSSL import SSL

from qmtls.access import Peer, Permit, Refuse, decide_recipient
from qmtls.net.handshake import facts_of
from qmtls.net.servertls import ServerTls
from qmtls.smtp.address import Address
from qmtls.smtp.events import Transaction
from qmtls.tls.clients import ClientRule, match_client
from qmtls.tls.pin import certificate_digest, key_pin_text
from tests.control.directory import compiled
from tests.net.certs import NOW
from tests.net.house import Files, with_tls
from tests.tls.pki import san_entries

DAY = timedelta(days=1)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@cache
def key(name: str) -> Key:
    return large_key() if name == "large" else ec.generate_private_key(ec.SECP256R1())


def large_key() -> rsa.RSAPrivateKey:
    """RSA of more than 8192 bits. To find such primes takes many seconds; these two of Mersenne's are known."""
    e, p, q = 65537, 2**4253 - 1, 2**4423 - 1
    d = pow(e, -1, (p - 1) * (q - 1))
    more = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
    numbers = rsa.RSAPrivateNumbers(p, q, d, *more, rsa.RSAPublicNumbers(e, p * q))
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)


@dataclass(frozen=True)
class Made:
    """A certificate with its key, and what is sent after it."""

    name: str
    cert: x509.Certificate
    chain: tuple[x509.Certificate, ...] = ()


def make(
    name: str,
    issuer: str = "root",
    *,
    emails: tuple[str, ...] = (),
    san: bytes = b"",
    days: tuple[int, int] = (-10, 100),
    ca: bool = False,
    use: x509.ObjectIdentifier | None = None,
    signed_by: str = "",
    padding: int = 0,
) -> Made:
    """`emails` in the subject; `san` in DER; `signed_by` is whose key signs, if not the issuer's."""
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    attributes += [x509.NameAttribute(NameOID.EMAIL_ADDRESS, email) for email in emails]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(attributes))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key(name).public_key())
        .serial_number(abs(hash((name, issuer, signed_by))) + 1)
        .not_valid_before(NOW + days[0] * DAY)
        .not_valid_after(NOW + days[1] * DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if san:
        odd = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, san)
        builder = builder.add_extension(odd, critical=False)
    if use is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
    if padding:
        filler = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"x" * padding)
        builder = builder.add_extension(filler, critical=False)
    return Made(name, builder.sign(key(signed_by or issuer), SHA256()))


ROOT = make("root", ca=True)
MIDDLE = make("middle", ca=True)
MAIL = san_entries(0x81, b"alice@a.example")
ALICE = make("alice", san=MAIL)
BELOW = replace(make("below", "middle", san=MAIL), chain=(MIDDLE.cert,))


def revocations(issuer: str, *revoked: Made, days: int = 10) -> bytes:
    until = NOW + days * DAY
    builder = x509.CertificateRevocationListBuilder().last_update(until - 20 * DAY).next_update(until)
    builder = builder.issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
    for made in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(made.cert.serial_number)
        builder = builder.add_revoked_certificate(entry.revocation_date(NOW - 30 * DAY).build())
    return builder.sign(key(issuer), SHA256()).public_bytes(Encoding.PEM)


def client(shown: Made | None) -> SSL.Connection:
    context = SSL.Context(SSL.TLS_METHOD)
    if shown is not None:
        context.use_certificate(shown.cert)
        for extra in shown.chain:
            context.add_extra_chain_cert(extra)
        context.use_privatekey(key(shown.name))
    made = SSL.Connection(context, None)
    made.set_connect_state()
    return made


def shake(server: SSL.Connection, other: SSL.Connection) -> None:
    """Until both are done; SSL.Error if a side ends it."""
    done = [False, False]
    for _ in range(20):
        for number, (one, two) in enumerate(((other, server), (server, other))):
            try:
                one.do_handshake()
                done[number] = True
            except SSL.WantReadError:
                pass
            try:
                two.bio_write(one.bio_read(1_000_000))
            except SSL.WantReadError:
                pass
        if all(done):
            return
    pytest.fail("the handshake does not end")


def decide(control: Path, shown: Made | None, rules: str, *, crls: bytes = b"", sender: str = "a@a.example") -> str:
    """What RCPT is answered with, or "ok" and what opened the relay."""
    trust: Files = {"clientca.pem": ROOT.cert.public_bytes(Encoding.PEM), "tlsclients": rules}
    settings = compiled(control, {**with_tls(), **trust, **({"clientcrl.pem": crls} if crls else {})})
    server = ServerTls(settings)
    creator = server.creator()
    connection = creator.connection(client=False)
    shake(connection, client(shown))
    facts = facts_of(connection, creator.recorder, client=False, crls=server.crls)
    now = NOW.timestamp()
    match = match_client(settings.access.clients, facts, trusted=True, now=now)
    peer = Peer("192.0.2.1", True, match, facts.summary)
    local_part, _, domain = sender.rpartition("@")
    transaction = Transaction(Address(local_part, domain) if domain else None)
    decision = decide_recipient(settings.access, peer, transaction, Address("x", "y.example"), Desk(now))
    if isinstance(decision, Permit):
        return f"ok {decision.by}"
    assert isinstance(decision, Refuse)
    return decision.reply.text.partition("; no valid cert for gatewaying")[2].removeprefix(": ")


@dataclass
class Desk:
    time: float
    asked: list[ClientRule] = field(default_factory=list)

    def resolve(self, address: Address) -> tuple[Address, ...] | None:
        return (address,)

    def wait(self, rule: ClientRule) -> float:
        return 0.0

    def now(self) -> float:
        return self.time


EMAIL = "alice@a.example\n"


@pytest.mark.parametrize(
    ("shown", "answer"),
    [
        (ALICE, "ok alice@a.example"),
        (BELOW, "ok alice@a.example"),
        (make("subject", emails=("Alice@A.example",)), "ok alice@a.example"),
        (None, ""),
        (make("expired", san=MAIL, days=(-10, -1)), "expired"),
        (make("early", san=MAIL, days=(1, 10)), "not yet valid"),
        (make("server", san=MAIL, use=ExtendedKeyUsageOID.SERVER_AUTH), "not meant for this use"),
        (make("client", san=MAIL, use=ExtendedKeyUsageOID.CLIENT_AUTH), "ok alice@a.example"),
        (make("stranger", "elsewhere", san=MAIL), "unknown issuer"),
        (replace(BELOW, chain=()), "unknown issuer"),
        (make("namesake", "root", san=MAIL, signed_by="another root"), "bad signature"),
        (make("alone", "alone", san=MAIL), "self-signed"),
        (make("authority", san=MAIL, ca=True), "it is a CA's certificate, not a client's"),
        (replace(make("grandchild", "alice", san=MAIL), chain=(ALICE.cert,)), "its issuer is no CA"),
        (make("nobody"), "contains no email address"),
        (make("other", san=san_entries(0x81, b"bob@a.example")), "email address not in my list of tlsclients"),
        (make("two", emails=("alice@a.example", "b@b.example")), "several email addresses in its subject"),
        (make("nul", san=san_entries(0x81, b"alice@a.example\0.evil.example")), "its email address is malformed"),
        (make("newline", emails=("alice@a.example\nx",)), "its email address is malformed"),
        (make("idn", emails=("älice@a.example",)), "its email address is not in ASCII"),
        (make("octets", san=san_entries(0x81, b"\xff\xfe@a.example")), "its names cannot be read"),
        # OpenSSL cannot read this one either, and then finds nobody who issued it.
        (make("broken", san=b"\x30\x03\x81\x05a"), "unknown issuer"),
        (make("long", san=MAIL, padding=20_000), "ok alice@a.example"),
        (replace(BELOW, chain=(MIDDLE.cert, *[make("more", padding=4000).cert] * 5)), "ok alice@a.example"),
    ],
    ids=lambda made: made.name if isinstance(made, Made) else None,
)
def test_what_an_email_rule_makes_of_a_certificate(tmp_path: Path, shown: Made | None, answer: str) -> None:
    assert decide(tmp_path, shown, EMAIL) == answer


def test_a_key_of_more_than_8192_bits(tmp_path: Path) -> None:
    assert decide(tmp_path, make("large", san=MAIL), EMAIL) == "ok alice@a.example"


@pytest.mark.parametrize(
    ("rule", "answer"),
    [
        ("dn:CN=alice", "ok dn:CN=alice"),
        ("dn:CN=Alice", "email address not in my list of tlsclients"),
        ("san:email:Alice@a.example", "ok san:email:Alice@a.example"),
        ("san:dns:a.example", "email address not in my list of tlsclients"),
        ("alice@a.example label=alice-1", "ok alice-1"),
        ("alice@a.example from=@a.example to=@y.example", "ok alice@a.example"),
        ("alice@a.example from=@b.example", "outside its scope from=@b.example"),
        ("alice@a.example to=.y.example", "outside its scope to=.y.example"),
        ("alice@a.example until=2020-01-01", "outside its scope until=2020-01-01 has passed"),
        (
            "alice@a.example from=@b.example\ndn:CN=alice from=.a.example",
            "outside its scope from=@b.example, and 1 more",
        ),
        ("alice@a.example from=@b.example\ndn:CN=alice label=second", "ok second"),
    ],
)
def test_kinds_and_scopes(tmp_path: Path, rule: str, answer: str) -> None:
    assert decide(tmp_path, ALICE, f"{rule}\n").startswith(answer)


def test_san_kinds(tmp_path: Path) -> None:
    uri, address = b"spiffe://a.example/gate", b"\xc0\x00\x02\x01"
    entries = b"".join(bytes([tag, len(v)]) + v for tag, v in ((0x82, b"gate.a.example"), (0x86, uri), (0x87, address)))
    gate = make("gate", san=b"\x30" + bytes([len(entries)]) + entries)
    for rule in ("san:dns:Gate.a.example", "san:uri:spiffe://a.example/gate", "san:ip:192.0.2.1"):
        assert decide(tmp_path, gate, f"{rule}\n") == f"ok {rule}"
    assert decide(tmp_path, gate, "san:uri:spiffe://a.example/Gate\n") == "not in my list of tlsclients"


@pytest.mark.parametrize(
    "shown",
    [
        make("alone", "alone"),
        make("alone", "alone", ca=True),
        make("stranger", "elsewhere", days=(-10, -1)),
        make("server", use=ExtendedKeyUsageOID.SERVER_AUTH),
        make("early", days=(1, 10)),
        ALICE,
    ],
)
@pytest.mark.parametrize("crls", [b"", revocations("root"), revocations("root", days=-1)])
def test_key_and_certificate_rules_ask_nothing_else(tmp_path: Path, shown: Made, crls: bytes) -> None:
    for rule in (key_pin_text(shown.cert), f"sha256:{certificate_digest(shown.cert).hex()}"):
        assert decide(tmp_path, shown, f"{rule}\n", crls=crls) == f"ok {rule}"


@pytest.mark.parametrize(
    ("shown", "lists", "answer"),
    [
        (ALICE, (("root", 10),), "ok alice@a.example"),
        (ALICE, (("middle", 10),), "no revocation list of CN=root"),
        (ALICE, (("root", -1),), "the revocation list of CN=root has expired"),
        (ALICE, (("root", 40),), "the revocation list of CN=root is not yet valid"),
        (ALICE, (("root", -1), ("root", 10)), "ok alice@a.example"),
        (BELOW, (("root", 10), ("middle", 10)), "ok alice@a.example"),
        (BELOW, (("root", 10),), "no revocation list of CN=middle"),
        (BELOW, (("middle", 10),), "no revocation list of CN=root"),
        (BELOW, (("root", 10), ("middle", -1)), "the revocation list of CN=middle has expired"),
        (BELOW, (("root", -1), ("middle", 10)), "the revocation list of CN=root has expired"),
    ],
)
def test_every_ca_of_the_chain_needs_a_current_list(
    tmp_path: Path, shown: Made, lists: tuple[tuple[str, int], ...], answer: str
) -> None:
    crls = b"".join(revocations(issuer, days=days) for issuer, days in lists)
    assert decide(tmp_path, shown, EMAIL, crls=crls) == answer
    # What names the certificate itself does not ask for lists.
    assert decide(tmp_path, shown, f"{key_pin_text(shown.cert)}\n", crls=crls).startswith("ok spki:")


@pytest.mark.parametrize("rule", ["alice@a.example", "dn:CN=alice", key_pin_text(ALICE.cert)])
@pytest.mark.parametrize("days", [10, -1])
def test_a_revoked_certificate_opens_nothing(tmp_path: Path, rule: str, days: int) -> None:
    assert decide(tmp_path, ALICE, f"{rule}\n", crls=revocations("root", ALICE, days=days)) == "revoked"


def test_below_a_revoked_ca_nothing_is_opened(tmp_path: Path) -> None:
    crls = revocations("root", MIDDLE) + revocations("middle")
    for rule in ("alice@a.example", key_pin_text(BELOW.cert)):
        assert decide(tmp_path, BELOW, f"{rule}\n", crls=crls) == "revoked"


def test_a_list_of_someone_elses_is_no_list(tmp_path: Path) -> None:
    forged = x509.CertificateRevocationListBuilder().last_update(NOW - DAY).next_update(NOW + DAY)
    forged = forged.issuer_name(ROOT.cert.subject)
    crl = forged.sign(key("another root"), SHA256()).public_bytes(Encoding.PEM)
    answer = decide(tmp_path, ALICE, EMAIL, crls=crl)
    assert answer == "the revocation list of CN=root has a bad signature"
