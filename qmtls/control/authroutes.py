"""`authroutes`: with which name and password we log in at a relay of `smtproutes`.

    RELAY[:PORT] USER PASSWORD      the password is the rest of the line
    RELAY[:PORT] USER               EXTERNAL: our certificate is the login, USER whom to be; "*" = whom it names

RELAY is written as in `smtproutes`, without a scheme; without a port it holds for every port. The file holds passwords:
one with a line in it that others than owner and group can read is a problem.
"""

from __future__ import annotations

from qmtls.control.lists import BadValueError, ControlFiles, Line, quote
from qmtls.control.values import host_and_port
from qmtls.delivery.routes import Routing
from qmtls.smtp.login import Login, Logins

FILE = "authroutes"
OTHERS = 0o007  # permission bits of those who are neither owner nor group
MAX_SECRET = 1024  # octets; RFC 4616 section 2 wants 255


def read_logins(files: ControlFiles, routing: Routing) -> Logins:
    """The logins by relay and port (0: any); a warning for one that no line of smtproutes leads to."""
    lines = files.lines(FILE)
    content = files.read(FILE) if lines else None
    if not lines or content is None:
        return {}
    if content.mode & OTHERS:
        mend = f"chmod {content.mode & 0o770:04o} {content.path}"
        files.problem(content.origin, "holds passwords that others than its owner and group can read", mend)
        return {}
    found: dict[tuple[str, int], Login] = {}
    for line in lines:
        with files.collecting(line.origin):
            key, login = _login(line)
            if key in found:
                raise BadValueError(f"has the same relay as {found[key].origin}", "remove one of the two")
            found[key] = login
            if not any(route.relay == key[0] and key[1] in (0, route.port) for route in routing.routes.values()):
                files.warn(line.origin, "no line of smtproutes leads there", "write one, or remove this line")
    return found


def _login(line: Line) -> tuple[tuple[str, int], Login]:
    words = line.text.split(None, 2)
    if len(words) < 2:
        # The line is not shown: who knows which of its words is the password.
        raise BadValueError("is no relay with a name", "write RELAY USER PASSWORD, or RELAY USER for EXTERNAL")
    relay, port = host_and_port(words[0], 0)
    user, password = words[1], words[2] if len(words) > 2 else None
    if len(user.encode()) > MAX_SECRET or len((password or "").encode()) > MAX_SECRET:
        raise BadValueError(f"the login for {quote(relay)} is too long", f"{MAX_SECRET} octets are the most")
    if password is None and user == "*":
        user = ""
    return (relay, port), Login(user, password, str(line.origin))
