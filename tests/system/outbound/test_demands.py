"""Which TLS is demanded and what becomes of mail when it is not met: each rule against real handshakes."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.system.house import House
from tests.system.mx import Do, FakeMx
from tests.system.outbound.handing import hand_in, open_to_all, wait_for_reasons
from tests.system.pki import Authority, Credential
from tests.system.waiting import wait_for


def test_a_changed_key_waits_until_the_pin_file_is_replaced(house: House, authority: Authority, tmp_path: Path) -> None:
    old, new = authority.server("mx.peer.test"), authority.server("mx.peer.test")
    with FakeMx(tls=new.server_context(tmp_path / "new.pem")) as mx:
        open_to_all(house, f"peer.test:127.0.0.1:{mx.port}").control("peer.test.pem", old.pem)
        house.start()
        (id,) = hand_in(house, "bob@peer.test")
        row = wait_for_reasons(house)["bob@peer.test"]
        assert row["id"] == id
        assert f"127.0.0.1:{mx.port} showed a key that pin file control/peer.test.pem does not pin" in row["reason"]
        assert spki(new) in row["reason"]
        assert row["reason"] in house.log()
        assert re.search(rf"deferred id={id} .*status=4\.7\.5", house.log())
        assert row["attempts"] == 1
        assert row["next"] > row["arrived"] + 300
        assert not [command for command in mx.commands if "MAIL" in command], "told to a host that is not the right one"

        before = len(house.log())
        house.control("peer.test.pem", new.pem)
        house.wait_for_log("reloaded ", after=before)  # by its changed time alone; and nobody says "retry"
        (message,) = mx.wait_for_messages()
    assert message.session.tls == "TLSv1.3"
    house.wait_for_log(rf'delivered id={id} .*tls="TLSv1.3 [^"]* pin"')
    house.wait_for_empty_queue()


def test_each_demand(house: House, authority: Authority, tmp_path: Path) -> None:
    """One service, a domain for each rule; `ca` are rules that the server's name must meet as well."""
    server = authority.server("mx.ca.test", "verify.test")
    other = authority.server("elsewhere.test")
    with FakeMx(tls=server.server_context(tmp_path / "server.pem")) as mx:
        pins = {
            "leaf.test": server.pem,
            "backup.test": other.pem + server.pem,
            "wrong.test": other.pem,
            "ca.test": authority.pem,  # the server has a name below it
            "caname.test": authority.pem,
            "foreignca.test": Authority("another").pem,
            "empty.test": b"",
        }
        for domain, pem in pins.items():
            house.control(f"{domain}.pem" if domain != "backup.test" else f"tlshosts/{domain}.pem", pem)
        house.control("ca.pem.txt", authority.pem)
        house.control(
            "tlspolicy",
            f"sha.test pin match=sha256:{sha256(server)}\n"
            f"nosha.test pin match=sha256:{sha256(other)}\n"
            f"spki.test pin match={spki(server)}\n"
            f"backupspki.test pin match={spki(other)} match={spki(server)}\n"
            f"nospki.test fingerprint match={spki(other)}\n"
            ".below.test encrypt\n"
            "verify.test secure match=verify.test tafile=ca.pem.txt\n"
            "noverify.test secure match=noverify.test tafile=ca.pem.txt\n"
            "untrusted.test verify match=verify.test\n"
            "plain.test none\n",
        )
        expected = {
            "leaf.test": "pin",
            "backup.test": "pin",
            "wrong.test": "key that pin file control/wrong.test.pem does not pin",
            "ca.test": "pin (CA)",
            "caname.test": "showed a certificate for mx.ca.test",
            "foreignca.test": "neither in pin file control/foreignca.test.pem nor issued by a CA in it",
            "empty.test": "pin file control/empty.test.pem cannot be used",
            "sha.test": "pin",
            "nosha.test": "does not pin",
            "spki.test": "pin",
            "backupspki.test": "pin",
            "nospki.test": "does not pin",
            "sub.below.test": "encrypt (unverified)",
            "verify.test": "secure",
            "noverify.test": "demands noverify.test",
            "untrusted.test": "cannot be trusted",
            "plain.test": "plain",
            "any.test": "may (unverified)",
        }
        open_to_all(house, f":127.0.0.1:{mx.port}").start()
        for domain in expected:
            hand_in(house, f"bob@{domain}")
        found = wait_for(lambda: outcomes(house, len(expected)), "an outcome for each domain")
    wrong = {d: f"{found.get(d)}, not {text}" for d, text in expected.items() if text not in found.get(d, "")}
    assert not wrong
    waiting = {domain for domain, text in expected.items() if " " in text and "(" not in text}
    assert {message.recipients[0] for message in mx.messages} == {f"bob@{d}" for d in expected if d not in waiting}
    plain = [message.recipients[0] for message in mx.messages if not message.session.tls]
    assert plain == ["bob@plain.test"]


def outcomes(house: House, count: int) -> dict[str, str]:
    """By domain: how it was delivered, or why not; {} until there are enough."""
    found = {}
    for line in house.log().splitlines():
        for pattern in (
            r'delivered .*@(\S+)> .*tls="(?:TLS\S+ \S+ \S+ )?([^"]*)"',
            r'deferred .*@(\S+)> .*reason="(.*)"$',
        ):
            if match := re.search(pattern, line):
                found[match[1]] = match[2]
    return found if len(found) >= count else {}


@pytest.mark.parametrize("flag", ["tlshosts/exhaustivelist", "notlshosts/localhost"])
def test_hosts_without_tls_by_decree(house: House, authority: Authority, tmp_path: Path, flag: str) -> None:
    server = authority.server("localhost")
    with FakeMx(tls=server.server_context(tmp_path / "server.pem")) as mx:
        open_to_all(house, f"named.test:localhost:{mx.port}", f"pinned.test:localhost:{mx.port}")
        house.control(flag, "")
        house.control("pinned.test.pem", server.pem)
        house.start()
        hand_in(house, "bob@named.test", "bob@pinned.test")
        messages = mx.wait_for_messages(2)
    assert {m.recipients[0]: bool(m.session.tls) for m in messages} == {
        "bob@named.test": False,
        "bob@pinned.test": True,
    }


BREAKS = {
    "reset in the handshake": {"handshake": Do(then="reset")},
    "closed in the handshake": {"handshake": Do(then="close")},
    "no TLS after the 220": {"handshake": Do(b"hello, this is no TLS\r\n", then="close")},
    "a reply injected behind the 220": {"STARTTLS": Do(b"220 go\r\n250 mail.injected.test\r\n")},
    "closed at STARTTLS": {"STARTTLS": Do(b"", then="close")},
}
REFUSALS = {
    "refused for now": {"STARTTLS": Do(b"454 4.7.0 TLS not available\r\n")},
    "refused": {"STARTTLS": Do(b"502 5.5.1 what?\r\n")},
}


@pytest.mark.parametrize("name", [*BREAKS, *REFUSALS, "stripped"])
def test_may_goes_on_in_plaintext_and_a_pin_never_does(
    house: House, authority: Authority, tmp_path: Path, name: str
) -> None:
    server = authority.server("peer.test")
    context = server.server_context(tmp_path / "server.pem") if name != "stripped" else None
    with FakeMx({**BREAKS, **REFUSALS}.get(name, {}), tls=context) as mx:
        open_to_all(house, f":127.0.0.1:{mx.port}").control("pinned.test.pem", server.pem)
        house.control("tlspolicy", "encrypted.test encrypt\n")
        house.start()
        hand_in(house, "bob@may.test")
        (message,) = mx.wait_for_messages()
        # A failed handshake needs another connection; a refusal leaves this one as it was.
        assert message.session.number == (2 if name in BREAKS else 1)
        assert not message.session.tls

        hand_in(house, "bob@pinned.test")
        hand_in(house, "bob@encrypted.test")
        rows = wait_for_reasons(house, 2)
    assert "pin file control/pinned.test.pem demands TLS" in rows["bob@pinned.test"]["reason"]
    assert "control/tlspolicy:1" in rows["bob@encrypted.test"]["reason"]
    assert len(mx.messages) == 1
    assert len([command for command in mx.commands if "MAIL" in command]) == 1


def test_a_client_certificate_is_shown_and_refusing_it_is_a_failed_handshake(
    house: House, authority: Authority, ca_file: Path, tmp_path: Path
) -> None:
    server, client = authority.server("peer.test"), authority.server("mx.test")
    stranger = tmp_path / "stranger.pem"
    stranger.write_bytes(Authority("another").pem)
    trusting = server.server_context(tmp_path / "server.pem", ask=ca_file)
    refusing = server.server_context(tmp_path / "server.pem", ask=stranger)
    with FakeMx(tls=trusting) as friend, FakeMx(tls=refusing) as foe:
        open_to_all(house, f"friend.test:127.0.0.1:{friend.port}", f":127.0.0.1:{foe.port}")
        house.control("clientcert.pem", client.bundle)
        house.control("pinned.test.pem", server.pem)
        house.start()
        hand_in(house, "bob@friend.test", "bob@pinned.test", "bob@may.test")
        (known,) = friend.wait_for_messages()
        assert known.session.certificate == client.certificate.public_bytes(Encoding.DER)
        (unknown,) = foe.wait_for_messages()
        assert unknown.recipients == ("bob@may.test",)
        assert not unknown.session.tls
        reason = wait_for_reasons(house)["bob@pinned.test"]["reason"]
    assert "pin file control/pinned.test.pem demands TLS" in reason
    # Its reset may overtake its alert.
    assert re.search("right after the TLS handshake: (tlsv1 alert unknown ca|connection lost)", reason)


def sha256(credential: Credential) -> str:
    return hashlib.sha256(credential.certificate.public_bytes(Encoding.DER)).hexdigest()


def spki(credential: Credential) -> str:
    der = credential.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"spki:{b64encode(hashlib.sha256(der).digest()).decode()}"
