"""One TLS session between a protocol and its transport: two memory BIOs and nothing else.

Twisted's own layer makes four objects and a timer for each connection, and takes every write through two turns of the
reactor; with a handshake for each message that is half of the cost of TLS. It also waits for the peer's close_notify
before it closes, for ever if need be. Here octets go in and out in place, and a close is a close_notify sent.

Whatever goes wrong in a session is TlsBroken: the connection is of no more use, and nothing read after it counts.
"""

from __future__ import annotations

from collections.abc import Callable

from OpenSSL import SSL

from qmtls.net.handshake import Creator

RECORD = 16 * 1024  # octets of plaintext in one TLS record (RFC 8446 section 5.1)
_HEAD = 5  # octets before a record's own: kind, version, length
_READ = 64 * 1024


class TlsBroken(Exception):
    """The session is over without a close_notify; str() says how, in OpenSSL's reason names."""


class TlsPipe:
    """`write` takes the octets for the wire. The call of `receive` that ends the handshake makes `established` true."""

    __slots__ = ("_parts", "_serves", "_write", "connection", "creator", "ended", "established")

    def __init__(self, creator: Creator, write: Callable[[bytes], object], *, client: bool) -> None:
        self.creator = creator
        self.connection = creator.connection(client=client)
        self.established = False
        self.ended = False  # the peer said close_notify
        self._parts = False  # some record did not come whole
        self._serves = not client
        self._write = write

    def start(self) -> None:
        """The client's hello; harmless for a server. TlsBroken."""
        self._shake_hands()

    def receive(self, data: bytes) -> bytes:
        """Octets of the wire in, plaintext out: b"" until the handshake is over. TlsBroken."""
        connection = self.connection
        connection.bio_write(data)
        hold, alone = False, self._is_one_record(data)
        if not self.established:
            self._shake_hands()
            if not self.established:
                return b""
            hold = self._tickets_wait()
        plain = []
        try:
            plain.append(connection.recv(_READ))
            while not alone:
                plain.append(connection.recv(_READ))
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.ended = True
        except SSL.Error as error:
            self._flush()
            raise TlsBroken(reason(error)) from error
        if not (hold or (alone and plain)):
            self._flush()
        return plain[0] if len(plain) == 1 else b"".join(plain)

    def _is_one_record(self, data: bytes) -> bool:
        """True if nothing came before that is not read yet, and `data` is one record: what one read gives is all of it.

        To ask OpenSSL whether there is more costs as much as the read. A record that comes in parts ends this.
        """
        if self._parts:
            return False
        size = len(data)
        end = _HEAD + (data[3] << 8 | data[4]) if size >= _HEAD else 0
        if end == size:
            return True
        while end + _HEAD <= size:
            end += _HEAD + (data[end + 3] << 8 | data[end + 4])
        self._parts = end != size
        return False

    def send(self, data: bytes) -> None:
        """Plaintext in, to the wire. TlsBroken."""
        try:
            if len(data) <= RECORD:
                self.connection.send(data)
            else:
                self.connection.sendall(data)
        except SSL.Error as error:
            raise TlsBroken(reason(error)) from error
        self._flush()

    def close(self) -> None:
        """Says close_notify, if the session is in a state to say anything."""
        self._write(self.farewell(b""))

    def farewell(self, data: bytes) -> bytes:
        """The octets for the wire that say `data` and close_notify, as far as the session can say anything."""
        out: list[bytes] = []
        try:
            if self.established:
                if data:
                    self.connection.sendall(data)
                self.connection.shutdown()
            while not out or len(out[-1]) == _READ:
                out.append(self.connection.bio_read(_READ))
        except SSL.Error:  # WantReadError: that was all
            pass
        return b"".join(out)

    def _shake_hands(self) -> None:
        try:
            self.connection.do_handshake()
            self.established = True
            if self._tickets_wait():
                return
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            self._flush()  # the alert: it tells the peer why
            raise TlsBroken(reason(error)) from error
        self._flush()

    def _tickets_wait(self) -> bool:
        """After the handshake a server of TLS 1.3 says tickets (RFC 8446 section 4.6.1), which nobody here will use.

        They need no packet of their own: they go out with the first reply.
        """
        return self._serves and self.connection.get_protocol_version() >= SSL.TLS1_3_VERSION

    def _flush(self) -> None:
        """What OpenSSL has for the wire. One read takes all there is; less than asked for means there is no more."""
        try:
            while True:
                data = self.connection.bio_read(_READ)
                self._write(data)
                if len(data) < _READ:
                    return
        except SSL.WantReadError:
            return


def reason(error: SSL.Error) -> str:
    """OpenSSL's reason names ("certificate verify failed"); a plain word where it gives none."""
    details = error.args[0] if error.args else ()
    if isinstance(details, (list, tuple)):
        names = [str(part[-1]) for part in details if isinstance(part, (list, tuple)) and part and part[-1]]
        if names:
            return ", ".join(names)
    return "the connection was closed"
