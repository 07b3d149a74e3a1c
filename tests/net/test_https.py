"""The policy host: only the right certificate is asked, and only a proper answer of bounded size is taken."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.net.certs import CLIENT, SERVER, Leaf, authority, self_signed
from tests.net.webhost import POLICY, Serve, WebHost, answer, fetch, fetch_all, order

HOST = "mta-sts.good.test"
CA = authority("web CA")
GOOD = CA.leaf("web", names=[HOST], use=SERVER)
ANCHORS = CA.pem


def get(tmp_path: Path, said: bytes = b"", leaf: Leaf = GOOD, **options: Any) -> dict[str, Any]:
    with WebHost(leaf, tmp_path, said) as host:
        return fetch(host.port, ANCHORS, **options)


def chunked(*parts: bytes) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))
    return answer(body, fields=["Transfer-Encoding: chunked"], framed=False)


@pytest.mark.parametrize(
    "said",
    [
        answer(),
        answer(kind="Text/Plain; charset=utf-8"),
        chunked(POLICY[:10], POLICY[10:]),
        b"HTTP/1.1 100 Continue\r\n\r\n" + answer(),
        answer(fields=["Connection: close", "Cache-Control: no-store"]),
    ],
)
def test_good_answers(tmp_path: Path, said: bytes) -> None:
    with WebHost(GOOD, tmp_path, said) as host:
        assert fetch(host.port, ANCHORS)["body"].encode() == POLICY
        (request,) = host.requests
    assert request.startswith(b"GET /.well-known/mta-sts.txt HTTP/1.1\r\n")
    assert f"\r\nHost: {HOST}\r\n".encode() in request
    assert host.names == [HOST]


def test_the_longest_policy(tmp_path: Path) -> None:
    longest = b"x" * 65536
    assert get(tmp_path, answer(longest))["body"].encode() == longest
    assert get(tmp_path, chunked(*[longest[:8192]] * 8))["body"].encode() == longest


BAD: list[tuple[bytes, str]] = [
    (answer(status="404 Not Found"), "was answered 404"),
    (answer(status="204 No Content", body=b""), "was answered 204"),
    (
        answer(status="301 Moved Permanently", fields=["Location: https://mta-sts.good.test/x"]),
        "was answered 301 (a redirect is not followed)",
    ),
    (answer(status="302 Found", fields=["Location: http://127.0.0.1/"]), "was answered 302"),
    (answer(kind="text/html"), "is not text/plain"),
    (answer(kind="text/plainer"), "is not text/plain"),
    (answer(kind=""), "is not text/plain"),
    (answer(fields=["Content-Type: text/html"]), "is not text/plain"),
    (answer(b"x" * 65537), "is longer than 65536 octets"),
    (chunked(*[b"x" * 8192] * 9), "is longer than 65536 octets"),
    (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000, ""),
    (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 60_000, "sends more than 262144 octets"),
    (b"SSH-2.0-OpenSSH\r\n\r\n", "did not answer in HTTP"),
    (b"\r\n\r\n", "did not answer in HTTP"),
    (chunked(POLICY).replace(b"\r\n0\r\n", b"\r\nzz\r\n"), ""),
]


def test_answers_that_do_not_count(tmp_path: Path) -> None:
    with ExitStack() as stack:
        hosts = [stack.enter_context(WebHost(GOOD, tmp_path, said)) for said, _ in BAD]
        found = fetch_all(*(order(host.port, ANCHORS) for host in hosts))
    for (said, words), result in zip(BAD, found, strict=True):
        assert words in result["trouble"] and HOST in result["trouble"], (said[:100], result)
        assert result["seconds"] < 10


CUT = [answer(framed=False), answer(POLICY + b"x")[:-1], chunked(POLICY)[:-3], answer()[:30]]


def test_an_answer_whose_end_is_not_there(tmp_path: Path) -> None:
    """Whether the connection is closed with a close_notify or without."""

    def serving(said: bytes, politely: bool) -> Serve:
        def serve(tls: ssl.SSLSocket) -> None:
            tls.sendall(said)
            if politely:
                tls.unwrap()

        return serve

    with ExitStack() as stack:
        serves = [serving(said, politely) for said in CUT for politely in (True, False)]
        hosts = [stack.enter_context(WebHost(GOOD, tmp_path, serve=serve)) for serve in serves]
        found = fetch_all(*(order(host.port, ANCHORS) for host in hosts))
    assert ["broke off" in result.get("trouble", "") for result in found] == [True] * 8


OTHER = authority("somebody else")


LEAVES: list[tuple[Leaf, str]] = [
    (CA.leaf("web", names=["good.test"], use=SERVER), "showed a certificate for good.test"),
    (CA.leaf("web", names=["*.mta-sts.good.test"], use=SERVER), "showed a certificate for *.mta-sts.good.test"),
    (CA.leaf(HOST, use=SERVER), "showed a certificate for no usable name"),
    (CA.leaf(HOST, email="a@good.test", use=SERVER), "showed a certificate for no usable name"),
    (CA.leaf("web", names=[HOST], days=-1, use=SERVER), "cannot be trusted (expired)"),
    (CA.leaf("web", names=[HOST], use=CLIENT), "cannot be trusted (not meant for this use)"),
    (OTHER.leaf("web", names=[HOST], use=SERVER), "cannot be trusted (unknown issuer)"),
    (self_signed(names=[HOST]), "cannot be trusted (self-signed)"),
]


def test_other_certificates_are_not_asked(tmp_path: Path) -> None:
    with ExitStack() as stack:
        hosts = [stack.enter_context(WebHost(leaf, tmp_path)) for leaf, _ in LEAVES]
        found = fetch_all(*(order(host.port, ANCHORS) for host in hosts))
        for (_, words), host, result in zip(LEAVES, hosts, found, strict=True):
            assert words in result["trouble"]
            assert not host.requests


def test_a_wildcard_for_one_label_is_a_name(tmp_path: Path) -> None:
    assert "body" in get(tmp_path, leaf=CA.leaf("web", names=["*.good.test"], use=SERVER))


def test_the_systems_authorities_do_not_know_ours(tmp_path: Path) -> None:
    with WebHost(GOOD, tmp_path) as host:
        assert "cannot be trusted" in fetch(host.port, b"")["trouble"]


def test_the_next_address_is_tried(tmp_path: Path) -> None:
    assert "body" in get(tmp_path, addresses={HOST: ["127.0.0.99", "127.0.0.1"]})
    found = get(tmp_path, addresses={HOST: ["127.0.0.98", "127.0.0.99"]})
    assert found["trouble"] == f"https://{HOST} cannot be connected to at 127.0.0.99"


def test_hosts_that_are_not_there(tmp_path: Path) -> None:
    assert "has no address" in fetch(1, ANCHORS, addresses={})["trouble"]
    assert fetch(1, ANCHORS, addresses={HOST: "trouble"})["trouble"] == "DNS: no"


def test_domains_that_are_none() -> None:
    domains = ["a/b", "..", "", "192.0.2.1", "[192.0.2.1]", "x" * 250 + ".test", "a\0b", "a b"]
    found = fetch_all(*(order(1, ANCHORS, domain=domain) for domain in domains))
    assert all("can have no policy host" in result["trouble"] for result in found)


def test_a_host_that_hangs_is_given_up(tmp_path: Path) -> None:
    def say_a_little(tls: ssl.SSLSocket) -> None:
        tls.sendall(answer()[:-5])
        host.hang()

    def say_nothing(tls: ssl.SSLSocket) -> None:
        host.hang()

    for serve in (say_nothing, say_a_little):
        with WebHost(GOOD, tmp_path, serve=serve) as host:
            found = fetch(host.port, ANCHORS, seconds=1.0)
        assert "has not answered within 1 seconds" in found["trouble"]
        assert 0.9 < found["seconds"] < 5


def test_a_host_that_hangs_in_the_handshake_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        found = fetch(mute.getsockname()[1], ANCHORS, seconds=1.0)
    assert "has not answered within 1 seconds" in found["trouble"]


def test_a_host_without_tls(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def run() -> None:
            sock, _ = plain.accept()
            with sock:
                sock.recv(10)
                sock.sendall(answer())
                sock.recv(10)

        threading.Thread(target=run, daemon=True).start()
        found = fetch(plain.getsockname()[1], ANCHORS)
    assert "the TLS handshake with" in found["trouble"]
