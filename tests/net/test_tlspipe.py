"""The TLS session between protocol and transport, joined to a plain OpenSSL peer."""

from __future__ import annotations

import pytest
from OpenSSL import SSL

from qmtls.net.handshake import Creator, facts_of
from qmtls.net.tlspipe import TlsBroken, TlsPipe, reason
from tests.net import certs


class Ends:
    """A pipe and a bare OpenSSL connection at its other end."""

    def __init__(self, client: bool, *, segment: int = 0) -> None:
        self.segment = segment
        self.wire = bytearray()  # from the pipe
        leaf = certs.server()
        own = certs.context(None if client else leaf)
        self.pipe = TlsPipe(Creator(own, ask=client), self._write, client=client)
        self.peer = SSL.Connection(certs.context(leaf if client else None), None)
        if client:
            self.peer.set_accept_state()
        else:
            self.peer.set_connect_state()
        self.got = b""

    def _write(self, data: bytes) -> None:
        self.wire += data

    def to_peer(self) -> bytes:
        """What the peer reads of what the pipe wrote."""
        data, self.wire = bytes(self.wire), bytearray()
        if data:
            self.peer.bio_write(data)
        read = b""
        try:
            while True:
                read += self.peer.recv(100_000)
        except SSL.WantReadError:
            return read
        except SSL.ZeroReturnError:
            return read + b"<end>"

    def to_pipe(self) -> bytes:
        try:
            data = self.peer.bio_read(10_000_000)
        except SSL.WantReadError:
            return b""
        step = self.segment or len(data)
        return b"".join(self.pipe.receive(data[n : n + step]) for n in range(0, len(data), step))

    def shake(self) -> None:
        self.pipe.start()
        for _ in range(10):
            try:
                self.peer.do_handshake()
            except SSL.WantReadError:
                pass
            self.to_pipe()
            self.to_peer()
        assert self.pipe.established


SIDES = pytest.mark.parametrize("client", [True, False], ids=["client", "server"])


@SIDES
@pytest.mark.parametrize("segment", [0, 1, 5, 1000])
def test_both_ways(client: bool, segment: int) -> None:
    ends = Ends(client, segment=segment)
    ends.shake()
    ends.pipe.send(b"hello")
    assert ends.to_peer() == b"hello"
    ends.peer.send(b"and back")
    assert ends.to_pipe() == b"and back"


@SIDES
def test_large_amounts(client: bool) -> None:
    ends = Ends(client)
    ends.shake()
    data = bytes(range(256)) * 4000
    ends.pipe.send(data)
    assert ends.to_peer() == data
    ends.peer.sendall(data)
    assert ends.to_pipe() == data


@SIDES
def test_a_close_is_said_once_and_at_once(client: bool) -> None:
    ends = Ends(client)
    ends.shake()
    ends.pipe.send(b"bye")
    ends.pipe.close()
    assert ends.to_peer() == b"bye<end>"
    ends.pipe.close()


@SIDES
def test_the_peers_close(client: bool) -> None:
    ends = Ends(client)
    ends.shake()
    ends.peer.send(b"last words")
    ends.peer.shutdown()
    assert ends.to_pipe() == b"last words"
    assert ends.pipe.ended
    ends.pipe.close()


def test_a_close_in_the_handshake_says_nothing_wrong() -> None:
    Ends(client=False).pipe.close()
    ends = Ends(client=True)
    ends.pipe.start()
    ends.pipe.close()


@SIDES
def test_nonsense_for_a_handshake(client: bool) -> None:
    ends = Ends(client)
    ends.pipe.start()
    with pytest.raises(TlsBroken) as broken:
        ends.pipe.receive(b"220 this is no handshake\r\n")
    assert str(broken.value)
    assert not ends.pipe.established


@SIDES
def test_nonsense_after_it(client: bool) -> None:
    ends = Ends(client)
    ends.shake()
    with pytest.raises(TlsBroken):
        ends.pipe.receive(b"\x17\x03\x03\x00\x10" + b"0123456789abcdef")
    with pytest.raises(TlsBroken):
        ends.pipe.send(b"x")


def test_a_failed_handshake_tells_the_peer_why() -> None:
    ends = Ends(client=False)
    old = certs.context(newest=SSL.TLS1_2_VERSION)
    ends.peer = SSL.Connection(old, None)
    ends.peer.set_connect_state()
    new = certs.context(certs.server())
    new.set_min_proto_version(SSL.TLS1_3_VERSION)
    ends.pipe = TlsPipe(Creator(new, ask=False), ends._write, client=False)
    with pytest.raises(SSL.WantReadError):
        ends.peer.do_handshake()
    with pytest.raises(TlsBroken) as broken:
        ends.to_pipe()
    assert "unsupported protocol" in str(broken.value)
    ends.peer.bio_write(bytes(ends.wire))
    with pytest.raises(SSL.Error) as told:
        ends.peer.do_handshake()
    assert "alert" in reason(told.value)


def test_words_for_an_error_without_words() -> None:
    assert reason(SSL.Error()) == "the connection was closed"
    assert reason(SSL.Error([("", "", "")])) == "the connection was closed"
    assert reason(SSL.Error([("lib", "func", "no cipher")])) == "no cipher"


def test_facts_of_a_session() -> None:
    ends = Ends(client=True)
    ends.shake()
    facts = facts_of(ends.pipe.connection, ends.pipe.creator.recorder, client=True, server_name="x")
    assert facts.leaf == certs.server().cert
    assert facts.summary.startswith("TLSv1.3 ")


class Watched:
    """An OpenSSL connection that counts what is asked of it."""

    def __init__(self, connection: SSL.Connection) -> None:
        self.connection = connection
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> object:
        self.asked.append(name)
        return getattr(self.connection, name)


@SIDES
def test_a_record_alone_is_read_once_and_makes_nothing_to_send(client: bool) -> None:
    ends = Ends(client)
    ends.shake()
    ends.pipe.connection = watched = Watched(ends.pipe.connection)  # type: ignore[assignment]
    ends.peer.send(b"a line")
    assert ends.to_pipe() == b"a line"
    assert watched.asked == ["bio_write", "recv"]


@SIDES
@pytest.mark.parametrize("segment", [0, 1, 7, 23, 40, 41, 1000])
def test_records_together_and_in_parts(client: bool, segment: int) -> None:
    """However they come, no octet waits for the next segment."""
    ends = Ends(client)
    ends.shake()
    ends.segment = segment
    sent = b""
    for n in range(20):
        for size in (1, 3, 17000, 2)[: n % 5]:
            ends.peer.sendall(b"%d" % (n % 10) * size)
            sent += b"%d" % (n % 10) * size
        ends.got += ends.to_pipe()
        assert ends.got == sent
