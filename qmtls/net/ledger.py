"""The thread that writes the ledger, so that neither the reactor nor mail ever waits for it.

`saw` and `session` only add to sums in memory, under a lock that the writer holds for moments. The writer takes what
has come together in about a second and writes it in one transaction for each kind. What cannot be written is kept and
tried again, up to a bound; beyond it history is lost, and mail is not. Trouble is said once when it begins and once
when it is over.
A process that is killed takes about a second of history with it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Lock, Thread

from twisted.internet.defer import Deferred

from qmtls.ledger.clients import ClientSeen, Sightings, forget_addresses, write_sightings
from qmtls.ledger.schema import LedgerError, ledger_error, open_ledger
from qmtls.ledger.tlsresults import SessionSums, day_of, forget_sessions, write_sessions
from qmtls.tls.results import TlsSession

Back = Callable[..., object]

GATHER_SECONDS = 1.0  # for one transaction
RETRY_SECONDS = 10.0  # between attempts in time of trouble
MOST = 10_000  # sums kept in memory; about 5 MB
PATIENT = 3  # busy answers in a row before that is trouble


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
        self._seen = Sightings(MOST)
        self._sessions = SessionSums(MOST)
        self._some = Event()  # there is something to write
        self._ending = Event()
        self._ended: Deferred[None] = Deferred()
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._troubled = False
        self._failed = 0  # attempts in a row
        # A daemon: an interpreter that must end need not wait for history.
        Thread(target=self._work, name="qmtls-ledger", daemon=True).start()

    def saw(self, seen: ClientSeen) -> None:
        """Remembers one accepted message; never waits, never fails."""
        with self._lock:
            self._seen.add(seen)
            if not self._some.is_set():
                self._some.set()

    def session(self, session: TlsSession) -> None:
        """Counts one outbound TLS session; never waits, never fails."""
        day = day_of(self._now())
        with self._lock:
            self._sessions.add(session, day)
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
            seen, self._seen = self._seen, Sightings(MOST)
            sessions, self._sessions = self._sessions, SessionSums(MOST)
            if not self._ending.is_set():
                self._some.clear()
        if not len(seen) and not len(sessions):
            return
        lost = seen.lost + sessions.lost
        try:
            if len(seen):
                write_sightings(self._open(), seen)
                seen, written = Sightings(MOST), seen
                seen.lost = written.lost
            if len(sessions):
                write_sessions(self._open(), sessions)
        except Exception as problem:  # a fault of ours too must only cost history
            self._trouble(problem, seen, sessions)
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
            forget_addresses(self._connection, self._now())
            forget_sessions(self._connection, self._now())
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _trouble(self, problem: Exception, seen: Sightings, sessions: SessionSums) -> None:
        """Keeps what was not written. The file is opened anew next time: it may have been mended or moved away."""
        self._close()
        with self._lock:
            self._seen.put_back(seen)
            self._sessions.put_back(sessions)
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
