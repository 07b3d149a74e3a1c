"""The thread that writes the ledger, so that neither the reactor nor mail ever waits for it.

`saw`, `session` and `handshake` only add to what is in memory, under a lock that the writer holds for moments. The
writer takes what has come together in about a second and writes it in one transaction for each kind. What cannot be
written is kept and tried again, up to a bound; beyond it history is lost, and mail is not. Trouble is said once when it
begins and once when it is over. What is too old to be kept is removed once an hour.
A process that is killed takes about a second of history with it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from math import inf
from pathlib import Path
from threading import Event, Lock, Thread

from twisted.internet.defer import Deferred

from qmtls.ledger.clients import ClientSeen, Sightings, forget_addresses, write_sightings
from qmtls.ledger.handshakes import Handshake, LastHandshakes, forget_handshakes, write_handshakes
from qmtls.ledger.schema import LedgerError, ledger_error, open_ledger
from qmtls.ledger.tlsresults import SessionSums, day_of, forget_sessions, write_sessions
from qmtls.tls.results import TlsSession

Back = Callable[..., object]

GATHER_SECONDS = 1.0  # for one transaction
RETRY_SECONDS = 10.0  # between attempts in time of trouble
MOST = 10_000  # sums kept in memory; about 5 MB
MOST_HOSTS = 2000  # with their last handshakes; about 5 MB too
FORGET_SECONDS = 3600.0  # between two looks at what is too old
PATIENT = 3  # busy answers in a row before that is trouble


class _Batch:
    """What waits to be written."""

    __slots__ = ("handshakes", "seen", "sessions")

    def __init__(self) -> None:
        self.seen = Sightings(MOST)
        self.sessions = SessionSums(MOST)
        self.handshakes = LastHandshakes(MOST_HOSTS)

    def __bool__(self) -> bool:
        return bool(len(self.seen) or len(self.sessions) or len(self.handshakes))

    @property
    def lost(self) -> int:
        return self.seen.lost + self.sessions.lost + self.handshakes.lost

    def put_back(self, older: _Batch) -> None:
        self.seen.put_back(older.seen)
        self.sessions.put_back(older.sessions)
        self.handshakes.put_back(older.handshakes)

    def write(self, connection: sqlite3.Connection) -> None:
        """What is written is in it no more, also if the rest cannot be. sqlite3.Error."""
        if len(self.seen):
            write_sightings(connection, self.seen)
            self.seen, written = Sightings(MOST), self.seen
            self.seen.lost = written.lost
        if len(self.sessions):
            write_sessions(connection, self.sessions)
            self.sessions, counted = SessionSums(MOST), self.sessions
            self.sessions.lost = counted.lost
        if len(self.handshakes):
            write_handshakes(connection, self.handshakes)


class Ledger:
    """`back(f, *args)` must call f(*args) in the reactor's thread: `reactor.callFromThread`."""

    def __init__(
        self, path: Path, back: Back, say: Callable[[str], None], now: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._back = back
        self._say = say
        self._now = now
        self._lock = Lock()
        self._batch = _Batch()
        self._some = Event()  # there is something to write
        self._ending = Event()
        self._ended: Deferred[None] = Deferred()
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._forgot = -inf  # when what is too old was removed last
        self._troubled = False
        self._failed = 0  # attempts in a row
        # A daemon: an interpreter that must end need not wait for history.
        Thread(target=self._work, name="qmtls-ledger", daemon=True).start()

    def saw(self, seen: ClientSeen) -> None:
        """Remembers one accepted message; never waits, never fails."""
        with self._lock:
            self._batch.seen.add(seen)
            if not self._some.is_set():
                self._some.set()

    def session(self, session: TlsSession) -> None:
        """Counts one outbound TLS session; never waits, never fails."""
        day = day_of(self._now())
        with self._lock:
            self._batch.sessions.add(session, day)
            if not self._some.is_set():
                self._some.set()

    def handshake(self, handshake: Handshake) -> None:
        """Remembers what a try at TLS showed; never waits, never fails."""
        with self._lock:
            self._batch.handshakes.add(handshake)
            if not self._some.is_set():
                self._some.set()

    def stop(self) -> Deferred[None]:
        """Writes what is there (one attempt) and ends the thread; then fires. To be called once, by the reactor."""
        self._ending.set()
        self._some.set()
        return self._ended

    # ------------------------------------------------ in the thread

    def _work(self) -> None:
        ending = False
        while not ending:
            self._some.wait()
            ending = self._ending.wait(RETRY_SECONDS if self._failed else GATHER_SECONDS)
            self._write()
        self._close()
        self._back(self._ended.callback, None)

    def _write(self) -> None:
        with self._lock:
            batch, self._batch = self._batch, _Batch()
            if not self._ending.is_set():
                self._some.clear()
        if not batch:
            return
        lost = batch.lost
        try:
            batch.write(self._open())
        except Exception as problem:  # a fault of ours too must only cost history
            self._trouble(problem, batch)
        else:
            self._failed = 0
            if self._troubled or lost:
                self._troubled = False
                self._back(self._say, f"ledger written again, messages lost from it={lost}")

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and _inode(self._path) != self._inode:
            self._close()  # moved away: what is written to it now would never be seen
        if self._connection is None:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            self._connection = open_ledger(self._path)
            self._inode = _inode(self._path)
            self._forgot = -inf
        now = self._now()
        if abs(now - self._forgot) >= FORGET_SECONDS:  # the clock may have been set back
            self._forgot = now
            for forget in (forget_addresses, forget_sessions, forget_handshakes):
                forget(self._connection, now)
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _trouble(self, problem: Exception, batch: _Batch) -> None:
        """Keeps what was not written. The file is opened anew next time: it may have been mended or moved away."""
        self._close()
        with self._lock:
            self._batch.put_back(batch)
            self._some.set()
        if isinstance(problem, sqlite3.Error):
            problem = ledger_error(self._path, problem)
        self._failed += 1
        busy = isinstance(problem, LedgerError) and problem.busy
        if not self._troubled and (not busy or self._failed >= PATIENT):
            self._troubled = True
            self._back(self._say, f"ledger trouble error={problem}: history may be lost, mail is not")


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0
