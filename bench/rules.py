"""What many rules cost: `python -m bench.rules [LINES]` makes a control directory with so many lines (10,000) of
`tlsclients` and of `tlssenders`, compiles it, and measures decisions in this process. No server is started.

Three clients ask: one that a single line names, one that half of the lines name (a gateway with a line for each
customer), and one that no line names. Times are the best of several rounds, so that other work on the machine does not
count; decisions are timed whole, the reply of a refusal included.
"""

from __future__ import annotations

import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from qmtls.access import AccessRules, Peer, Refuse, decide_recipient, decide_sender
from qmtls.control.compile import compile_control
from qmtls.smtp.address import Address
from qmtls.smtp.events import Transaction
from qmtls.tls.clients import ClientMatch, ClientRule, match_client
from qmtls.tls.facts import TlsFacts

LINES = 10_000
ROUNDS = 5
DECISIONS = 2_000  # in a round
GATEWAY = "gateway@a.example"

# How the lines look in turn, besides those of the gateway.
KINDS: tuple[Callable[[int], str], ...] = (
    lambda n: f"user{n}@a{n}.example from=@a{n}.example,.a{n}.example,<> rate=100/h",
    lambda n: f"sha256:{_digest(n).hex()} until=2099-12-31 label=host-{n}",
    lambda n: f"spki:{b64encode(_digest(n)).decode('ascii')} size=10M",
    lambda n: f'dn:"CN=host {n},OU=Mail\\, out,O=Example Ltd,C=DE" to=.a{n}.example',
    lambda n: f"san:dns:host{n}.a.example from=a@b{n}.example",
)


class Desk:
    """Takes every recipient, and never makes one wait."""

    def resolve(self, address: Address) -> tuple[Address, ...] | None:
        return (address,)

    def wait(self, rule: ClientRule) -> float:
        return 0.0

    def now(self) -> float:
        return 1_800_000_000.0


def main() -> int:
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else LINES
    with tempfile.TemporaryDirectory() as directory:
        control = Path(directory)
        control.joinpath("me").write_text("mail.example.org\n")
        control.joinpath("tlsclients").write_text("".join(f"{line}\n" for line in _client_lines(lines)))
        control.joinpath("tlssenders").write_text("".join(f"s{n}.example tls\n" for n in range(lines)))
        began = time.perf_counter()
        rules = compile_control(control).access
        print(f"compiling {2 * lines:,} lines: {time.perf_counter() - began:.3f} s")
    for name, microseconds in _figures(rules, lines):
        print(f"{name}: {microseconds:.1f} µs")
    return 0


def _client_lines(count: int) -> Iterator[str]:
    for number in range(count // 2):
        yield KINDS[number % len(KINDS)](number)
        yield f"{GATEWAY} from=@customer{number}.example rate=1000/d label=customer-{number}"


def _figures(rules: AccessRules, lines: int) -> Iterator[tuple[str, float]]:
    customers = lines // 2
    user = (customers - 1) // len(KINDS) * len(KINDS)
    yield from _of_client(rules, "of one line", f"user{user}@a{user}.example", f"a{user}.example")
    yield from _of_client(rules, f"of {customers:,} lines", GATEWAY, f"customer{customers - 1}.example")
    yield from _of_client(rules, "of no line", "nobody@else.example", "else.example")


def _of_client(rules: AccessRules, which: str, email: str, domain: str) -> Iterator[tuple[str, float]]:
    desk, facts, to = Desk(), _facts(email), Address("b", "somewhere.example")

    def matched() -> ClientMatch:
        return match_client(rules.clients, facts, trusted=True, now=desk.now())

    yield f"client {which}: its certificate", _best(matched, 20)
    peer = Peer("192.0.2.1", True, matched())
    for whose, sender in (("its", Address("a", domain)), ("another's", Address("a", "stranger.example"))):
        said = f"client {which}, sender {whose}"
        transaction = Transaction(sender)
        yield f"{said}: MAIL", _best(partial(decide_sender, rules, peer, sender))
        decided = decide_recipient(rules, peer, transaction, to, desk)
        outcome = "refused" if isinstance(decided, Refuse) else "permitted"
        yield f"{said}: RCPT {outcome}", _best(partial(decide_recipient, rules, peer, transaction, to, desk))


def _best(work: Callable[[], object], times: int = DECISIONS) -> float:
    """Microseconds for one."""
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(times):
            work()
        found.append((time.perf_counter() - began) / times * 1e6)
    return min(found)


def _facts(email: str) -> TlsFacts:
    """A handshake with a good certificate for this address."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(start).not_valid_after(start + timedelta(days=3650))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.RFC822Name(email)]), critical=False)
    # Read back, as a handshake gives it: what is parsed once is then not measured again and again.
    leaf = x509.load_der_x509_certificate(builder.sign(key, SHA256()).public_bytes(Encoding.DER))
    return TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", "X25519", leaf, (leaf,), (), True)


def _digest(number: int) -> bytes:
    return sha256(str(number).encode("ascii")).digest()


if __name__ == "__main__":
    sys.exit(main())
