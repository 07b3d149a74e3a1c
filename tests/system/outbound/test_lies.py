"""What name servers and hosts may lie about, told to the whole program: mail waits with a sentence, or goes to a host
that is good; nothing is logged but lines, and nothing is written or read outside the home."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.CNAME
import dns.rdtypes.ANY.MX
import dns.rrset
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.system.house import House
from tests.system.mx import FakeMx
from tests.system.outbound.dns import NameServer
from tests.system.outbound.handing import hand_in, open_to_all
from tests.system.outbound.test_demands import outcomes
from tests.system.outbound.test_hosts import fresh_address, pytestmark  # noqa: F401 - port 25 for this module too
from tests.system.pki import Authority
from tests.system.waiting import wait_for

# Domains by what the MX record names.
NAMES: dict[str, tuple[bytes, ...]] = {
    "slash": (b"..", b"control", b"x/../../me"),
    "nul": (b"a\0b", b"test"),
    "address": (b"192", b"0", b"2", b"1"),
    "blank": (b"mx evil", b"test"),
    "line": (b"mx\r\nreloaded", b"test"),
    "long": (b"x" * 63,) * 3,
}


class Liar(NameServer):
    """`disorder.test`: the right answer comes last, behind those to other questions. `loop.test`: a name that is its
    own alias."""

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        found = NAMES.get(name.removesuffix(".test"))
        if name == "mx-loop.test":
            answer = dns.message.make_response(query)
            alias = dns.rdtypes.ANY.CNAME.CNAME(dns.rdataclass.IN, dns.rdatatype.CNAME, question.name)
            answer.answer.append(dns.rrset.from_rdata(question.name, 60, alias))
            return answer
        if found is None or question.rdtype != dns.rdatatype.MX:
            if name.endswith("disorder.test"):
                self._mislead(query)
            return super()._answer(query)
        answer = dns.message.make_response(query)
        record = dns.rdtypes.ANY.MX.MX(dns.rdataclass.IN, dns.rdatatype.MX, 10, dns.name.Name((*found, b"")))
        answer.answer.append(dns.rrset.from_rdata(question.name, 60, record))
        return answer

    def _mislead(self, query: dns.message.Message) -> None:
        """Answers that are none: another id, another question, the question itself, and no DNS at all."""
        other = dns.message.make_query("mx.else.test", "A")
        lie = dns.message.make_response(other)
        lie.answer.append(dns.rrset.from_text("mx.else.test.", 60, "IN", "A", "127.0.0.9"))
        wrong_id = dns.message.make_response(query)
        wrong_id.id ^= 1
        same_id = dns.message.from_wire(lie.to_wire())
        same_id.id = query.id
        for wire in (lie.to_wire(), wrong_id.to_wire(), same_id.to_wire(), query.to_wire(), b"\xff" * 40, b""):
            self._socket.sendto(wire, self.peer)

    def _run(self) -> None:
        while True:
            try:
                data, self.peer = self._socket.recvfrom(4096)
            except OSError:
                return
            if not data:
                return
            self._socket.sendto(self._answer(dns.message.from_wire(data)).to_wire(), self.peer)


@pytest.fixture
def names() -> Iterator[Liar]:
    with Liar() as server:
        yield server


def test_names_that_are_none_and_answers_that_are_none(house: House, names: Liar) -> None:
    address = fresh_address()
    names.mx("disorder.test", "mx.disorder.test")
    names.host("mx.disorder.test", address)
    names.mx("loop.test", "mx-loop.test")
    open_to_all(house).control("dnsserver", f"{names.address}\n")
    before = {path for path in house.home.rglob("*") if path.is_file()}
    with FakeMx(host=address, port=25) as mx:
        house.start()
        domains = [*(f"{name}.test" for name in NAMES), "disorder.test", "loop.test"]
        for domain in domains:
            hand_in(house, f"bob@{domain}")
        found = wait_for(lambda: outcomes(house, len(domains)), "an outcome for each")
        assert found["disorder.test"] == "plain" and len(mx.messages) == 1
        assert "cannot be looked up now" in found["loop.test"]
        for name in NAMES:
            sentence = "has an address" if name == "long" else "name no host"
            assert sentence in found[f"{name}.test"], found
    assert "Traceback" not in house.log()
    assert not [line for line in house.log().splitlines() if line.startswith("reloaded")]
    new = {path for path in house.home.rglob("*") if path.is_file()} - before
    assert {path.relative_to(house.home).parts[0] for path in new} <= {"queue", "state", "log", "output"}


def weak(authority: Authority, bits: int, path: Path) -> ssl.SSLContext:
    """A server with a certificate of our CA for a key of so few bits."""
    key = rsa.generate_private_key(65537, bits)
    name = x509.Name.from_rfc4514_string("CN=weak")
    certificate = authority._sign(name, key, sans=(x509.DNSName("weak.test"),))  # type: ignore[arg-type]
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.load_cert_chain(path)
    return context


def test_weak_keys(house: House, authority: Authority, tmp_path: Path) -> None:
    """Where nobody asks who the host is, any TLS is better than none; where somebody does, such a key says nothing."""
    house.control("ca.crt", authority.pem)
    with FakeMx(tls=weak(authority, 1024, tmp_path / "weak.pem")) as mx:
        lines = {
            "may.test": "may",
            "encrypt.test": "encrypt",
            "verify.test": "verify match=weak.test tafile=ca.crt",
        }
        open_to_all(house, *(f"{domain}:127.0.0.1:{mx.port}" for domain in lines))
        house.control("tlspolicy", "".join(f"{domain} {line}\n" for domain, line in lines.items()))
        house.start()
        for domain in lines:
            hand_in(house, f"bob@{domain}")
        found = wait_for(lambda: outcomes(house, len(lines)), "an outcome for each")
    assert "(its key is too weak)" in found.pop("verify.test")
    assert found == {"may.test": "may (unverified)", "encrypt.test": "encrypt (unverified)"}
    assert "Traceback" not in house.log()
