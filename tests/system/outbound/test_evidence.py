"""DANE with a signed zone, nsd and a validating unbound; MTA-STS with a policy host: what becomes of whose mail.

One service, a domain for each fact. Hosts are on port 25, the policy host on port 443, of loopback addresses.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Recipient
from tests.system.dnssec import PLAIN, SIGNED, Names
from tests.system.house import House
from tests.system.mx import Do, FakeMx
from tests.system.outbound.handing import hand_in, open_to_all
from tests.system.outbound.test_demands import outcomes
from tests.system.outbound.test_extensions import TLS_ONLY, post
from tests.system.outbound.test_hosts import fresh_address, pytestmark  # noqa: F401 - port 25 for this module too
from tests.system.pki import Authority, Credential
from tests.system.waiting import wait_for

GUARDED = {"ca": SIGNED, "ststest": PLAIN, "bare": SIGNED}
LOOSE = b"TLS-Required: No\r\nSubject: anyone may read this\r\n\r\nhello\r\n"


def spki(credential: Credential) -> str:
    key = credential.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return sha256(key).hexdigest()


def context_of(path: Path, credential: Credential, authority: Authority) -> ssl.SSLContext:
    """A server that shows its chain up to the CA."""
    credential.write(path)
    path.write_bytes(credential.bundle + authority.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


class PolicyHost(ThreadingHTTPServer):
    """Serves `policies` by the name in the request."""

    def __init__(self, address: str, context: ssl.SSLContext, policies: dict[str, str]) -> None:
        super().__init__((address, 443), _Answer)
        self.policies = policies
        self.requests: list[str] = []
        self.socket = context.wrap_socket(self.socket, server_side=True)


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, PolicyHost)
        host = self.headers["Host"]
        server.requests.append(host + self.path)
        body = server.policies[host].encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def policy_host(address: str, context: ssl.SSLContext, policies: dict[str, str]) -> Iterator[PolicyHost]:
    with PolicyHost(address, context, policies) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class World:
    """Hosts, zones and policies while they are put together."""

    def __init__(self, stack: ExitStack, authority: Authority, directory: Path) -> None:
        self._stack = stack
        self._authority = authority
        self._directory = directory
        self.zones = {SIGNED: "", PLAIN: ""}
        self.policies: dict[str, str] = {}
        self.address = fresh_address()  # of the policy host
        self.hosts: dict[str, FakeMx] = {}

    def domain(self, name: str, zone: str, tlsa: str = "", credential: Credential | None = None, **script: Do) -> str:
        """`name`.`zone`, whose one host is mx-`name`.`zone`; TLS is offered if there is a credential."""
        host, address = f"mx-{name}", fresh_address()
        context = None
        if credential is not None:
            context = context_of(self._directory / f"{name}.pem", credential, self._authority)
        self.hosts[name] = self._stack.enter_context(FakeMx(dict(script), tls=context, host=address, port=25))
        self.zones[zone] += f"{name} IN MX 10 {host}\n{host} IN A {address}\n"
        if tlsa:
            self.zones[zone] += f"_25._tcp.{host} IN TLSA {tlsa}\n"
        return f"{name}.{zone}"

    def policy(self, name: str, zone: str, mode: str, mx: str) -> None:
        """MTA-STS for a domain."""
        self.zones[zone] += f'_mta-sts.{name} IN TXT "v=STSv1; id=one;"\nmta-sts.{name} IN A {self.address}\n'
        self.policies[f"mta-sts.{name}.{zone}"] = f"version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 86400\n"


def test_what_becomes_of_mail_to_each_domain(house: House, authority: Authority, tmp_path: Path) -> None:
    stranger = Authority("another")
    with ExitStack() as stack:
        world = World(stack, authority, tmp_path)
        expected = dane(world, authority, stranger) | sts(world, authority, stranger)
        expected |= both(world, authority, stranger)
        world.zones[SIGNED] += f"broken IN A {fresh_address()}\n"
        expected[f"broken.{SIGNED}"] = "cannot be looked up now"
        names = list(world.policies)
        web = context_of(tmp_path / "web.pem", authority.server(*names), authority)
        (tmp_path / "names").mkdir()
        zones = Names(tmp_path / "names", world.zones[SIGNED], world.zones[PLAIN], f"broken.{SIGNED}.")
        server = stack.enter_context(zones).server
        policies = stack.enter_context(policy_host(world.address, web, world.policies))
        (tmp_path / "system.crt").write_bytes(authority.pem)
        open_to_all(house).control("dnsserver", f"{server[0]}:{server[1]}\n")
        house.control("tlspolicy", f"only.{PLAIN} dane-only\nlevel.{PLAIN} sts\nstrict.{SIGNED} dane-only\n")
        house.start(environment={"SSL_CERT_FILE": str(tmp_path / "system.crt")})
        for domain in expected:
            hand_in(house, f"bob@{domain}")
        found = wait_for(lambda: outcomes(house, len(expected)), "an outcome for each domain")
        wrong = {d: f"{found.get(d)}, not {text}" for d, text in expected.items() if text not in found.get(d, "")}
        assert not wrong
        waiting = {d for d, text in expected.items() if " " in text and "(" not in text}
        taken = {m.recipients[0].split("@")[1] for host in world.hosts.values() for m in host.messages}
        assert taken == set(expected) - waiting

        # The same host, and a message that gives up what DANE demands, but no rule.
        hand_in(house, f"eve@changed.{SIGNED}", contents=[LOOSE])
        (message,) = world.hosts["changed"].wait_for_messages()
        assert message.recipients == (f"eve@changed.{SIGNED}",) and message.session.tls
        assert world.hosts["good"].sessions[0].sni == f"mx-good.{SIGNED}"

        # REQUIRETLS: DNS and the policy say who the host is; where nobody does, it waits.
        for name, zone in GUARDED.items():
            world.hosts[name].extensions = TLS_ONLY
            post(house, Recipient(Address("guarded", f"{name}.{zone}")), requiretls=True)
        for name in ("ca", "ststest"):
            messages = world.hosts[name].wait_for_messages(2)
            assert "REQUIRETLS" in messages[-1].sender and messages[-1].session.tls, name
        house.wait_for_log(rf"deferred .*guarded@bare\.{SIGNED}.*REQUIRETLS")
        assert len(world.hosts["bare"].messages) == 1

        asked = len(policies.requests)
        hand_in(house, f"bob@stsgood.{PLAIN}")
        world.hosts["stsgood"].wait_for_messages(2)
        assert len(policies.requests) == asked, "kept"


def dane(world: World, authority: Authority, stranger: Authority) -> dict[str, str]:
    """Each domain with what becomes of its mail."""
    one, two = authority.server("mx.test"), stranger.server("mx.test")
    named = authority.server(f"mx-ca.{SIGNED}", f"mx-strict.{SIGNED}")
    root = sha256(authority.certificate.public_bytes(Encoding.DER)).hexdigest()
    other = sha256(stranger.certificate.public_bytes(Encoding.DER)).hexdigest()
    return {
        world.domain("good", SIGNED, f"3 1 1 {spki(one)}", one): "dane",
        world.domain("changed", SIGNED, f"3 1 1 {spki(two)}", one): "matches no TLSA record",
        world.domain("ca", SIGNED, f"2 0 1 {root}", named): "dane",
        world.domain("caname", SIGNED, f"2 0 1 {root}", one): "showed a certificate for mx.test",
        world.domain("otherca", SIGNED, f"2 0 1 {other}", named): "matches no TLSA record",
        world.domain("strict", SIGNED, f"3 1 1 {spki(named)}", named): "dane-only",
        world.domain("stripped", SIGNED, f"3 1 1 {spki(one)}"): "STARTTLS is not offered, but DANE",
        world.domain("refused", SIGNED, f"3 1 1 {spki(one)}", one, STARTTLS=Do(b"454 4.7.0 no\r\n")): "answered 454",
        world.domain("reset", SIGNED, f"3 1 1 {spki(one)}", one, handshake=Do(then="close")): "hung up after our hello",
        world.domain("unusable", SIGNED, f"1 1 1 {spki(one)}", one): "encrypt (unverified)",
        world.domain("unusableplain", SIGNED, f"1 1 1 {spki(one)}"): "of which none can be used",
        world.domain("bare", SIGNED, "", two): "may (unverified)",
        world.domain("bareplain", SIGNED): "plain",
        world.domain("unsigned", PLAIN, f"3 1 1 {spki(one)}", two): "may (unverified)",
        world.domain("only", PLAIN, f"3 1 1 {spki(one)}", one): "must be verified by DANE",
    }


def sts(world: World, authority: Authority, stranger: Authority) -> dict[str, str]:
    """Likewise."""

    def named(host: str, by: Authority = authority) -> Credential:
        return by.server(f"mx-{host}.{PLAIN}")

    expected = {
        world.domain("stsgood", PLAIN, "", named("stsgood")): "sts",
        world.domain("stsca", PLAIN, "", named("stsca", stranger)): "cannot be trusted",
        world.domain("stsname", PLAIN, "", named("else")): "showed a certificate for mx-else",
        world.domain("stsplain", PLAIN): "STARTTLS is not offered, but MTA-STS",
        world.domain("stsmx", PLAIN, "", named("stsmx")): "is passed over",
        world.domain("ststest", PLAIN, "", named("ststest")): "may (unverified)",
        world.domain("stslax", PLAIN, "", named("else", stranger)): "may (unverified)",
        world.domain("stsnone", PLAIN): "plain",
        world.domain("level", PLAIN, "", named("level")): "there is no MTA-STS record",
        world.domain("stsdane", SIGNED, f"3 1 1 {spki(named('x'))}", named("y")): "matches no TLSA record",
    }
    for name in ("stsgood", "stsca", "stsname", "stsplain"):
        world.policy(name, PLAIN, "enforce", f"mx-{name}.{PLAIN}")
    world.policy("stsmx", PLAIN, "enforce", f"*.else.{PLAIN}")
    world.policy("ststest", PLAIN, "testing", f"mx-ststest.{PLAIN}")
    world.policy("stslax", PLAIN, "testing", f"mx-stslax.{PLAIN}")
    world.policy("stsnone", PLAIN, "none", "nowhere.test")
    world.policy("stsdane", SIGNED, "enforce", f"mx-stsdane.{SIGNED}")
    return expected


def both(world: World, authority: Authority, stranger: Authority) -> dict[str, str]:
    """Likewise, where no TLSA record can be used, and the domain has an MTA-STS policy."""
    unusable = f"1 1 1 {'00' * 32}"

    def named(host: str, by: Authority = authority) -> Credential:
        return by.server(f"mx-{host}.{SIGNED}")

    expected = {
        world.domain("bothgood", SIGNED, unusable, named("bothgood")): "sts",
        world.domain("bothca", SIGNED, unusable, named("bothca", stranger)): "cannot be trusted",
        world.domain("bothname", SIGNED, unusable, named("else")): "showed a certificate for mx-else",
        world.domain("bothplain", SIGNED, unusable): "STARTTLS is not offered, but MTA-STS",
        world.domain("bothmx", SIGNED, unusable, named("bothmx")): "is passed over",
        world.domain("bothlax", SIGNED, unusable, named("else", stranger)): "encrypt (unverified)",
        world.domain("bothlaxplain", SIGNED, unusable): "of which none can be used",
        world.domain("bothnone", SIGNED, unusable, named("else", stranger)): "encrypt (unverified)",
    }
    for name in ("bothgood", "bothca", "bothname", "bothplain"):
        world.policy(name, SIGNED, "enforce", f"mx-{name}.{SIGNED}")
    world.policy("bothmx", SIGNED, "enforce", f"*.else.{SIGNED}")
    for name in ("bothlax", "bothlaxplain"):
        world.policy(name, SIGNED, "testing", f"mx-{name}.{SIGNED}")
    world.policy("bothnone", SIGNED, "none", "nowhere.test")
    return expected
