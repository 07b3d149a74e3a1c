"""The ledger as commands read it: while the service writes it, and as its owner."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from qmtls.cli.home import Home
from qmtls.cli.output import CommandError
from qmtls.cli.owner import as_owner_of
from qmtls.ledger.schema import FILE, LedgerError, read_ledger


@contextmanager
def ledger_of(home: Home) -> Iterator[sqlite3.Connection | None]:
    """For reading only; None if there is nothing in it yet. CommandError if it cannot be read, then or later."""
    path = home.state / FILE
    try:
        with as_owner_of(home.state):
            connection = read_ledger(path)
            if connection is None:
                yield None
                return
            with closing(connection):
                yield connection
    except LedgerError as problem:
        raise CommandError(str(problem)) from None
    except (OSError, sqlite3.Error) as problem:
        raise CommandError(f"{path}: {problem}") from None
