"""Open files: how many this process may have, and how many of them connections may take.

What is left is for the queue: a server whose clients hold every file can accept connections, but no mail.
"""

from __future__ import annotations

import resource

WANTED = 8192  # many systems start a process with 1024 and permit half a million


def raise_limit() -> int:
    """As many as we want, or as the system permits; the number. Never lowers it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft == resource.RLIM_INFINITY:
        return WANTED
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return wanted
        except (OSError, ValueError):  # not permitted here: then it is as it is
            pass
    return soft


def for_clients(files: int) -> int:
    """Connections in: two of five."""
    return files * 2 // 5


def for_lanes(files: int) -> int:
    """Connections out: one of five. While it looks up addresses each has two sockets; more only while there are few
    questions in all (qmtls.net.targets)."""
    return files // 5
