"""What root makes below a home belongs to the home's owner: the service, which is somebody else, could not read it.

A cron job of root's must not leave mail that the service passes over.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def as_owner_of(path: Path) -> Iterator[None]:
    """Root acts with the rights of who owns `path` (or what is above it, if that is missing). Others act as they are.

    Effective ids only, and those of the whole process: for commands, which have one thread.
    """
    if os.geteuid() != 0:
        yield
        return
    group = os.getegid()
    found = _existing(path).stat()
    os.setegid(found.st_gid)
    os.seteuid(found.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)


def _existing(path: Path) -> Path:
    return next((one for one in (path, *path.parents) if one.exists()), path)
