"""`users`: who may prove himself by a password, and what that is good for.

    USER HASH [scope…]      HASH is argon2's encoded form, written by `qmtls user`; scopes as in `tlsclients`

The file is as secret as a private key: hashes can be guessed at by who has them. For the same reason no message quotes
one. What a hash asks for in memory and time is bounded here, because it is spent for everyone who knocks.
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64

from qmtls.control.lists import BadValueError, ControlFiles, Line, quote
from qmtls.control.pem import OTHERS
from qmtls.control.scopes import read_scope, split_words
from qmtls.control.settings import User
from qmtls.tls.clients import USER, ClientRule

FILE = "users"

MOST_MEMORY = 256 * 1024  # KiB for one look at a password
MOST_PASSES = 20
MOST_LANES = 16
LEAST_SALT = 8  # octets; RFC 9106 section 3.1
LEAST_HASH = 16

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+@-]{0,127}\Z")
_HASH = re.compile(
    r"\$argon2(?:id|i|d)\$v=19\$m=([0-9]{1,9}),t=([0-9]{1,9}),p=([0-9]{1,9})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)\Z"
)
MEND = "write the line anew: qmtls user add USER"


def read_users(files: ControlFiles) -> dict[str, User]:
    """By name in lower case; {} without the file, and then AUTH with a password is not offered."""
    users: dict[str, User] = {}
    for line in files.lines(FILE) or ():
        with files.collecting(line.origin):
            user = _user(line)
            name = user.rule.value
            if name in users:
                raise BadValueError(f"{name} is here for the second time", f"{users[name].rule.origin} is the first")
            users[name] = user
    content = files.read(FILE) if users else None
    if content is not None and content.mode & OTHERS:
        mend = f"chmod {content.mode & 0o770:04o} {content.path}"
        files.problem(content.origin, "holds hashes of passwords that others than its owner and group can read", mend)
    return users


def user_name(text: str) -> str:
    """The name as it is compared. Raises BadValueError."""
    if not _USER.match(text):
        mend = "write up to 128 letters, digits and . _ + - @, a letter or digit first"
        raise BadValueError(f"{quote(text)} cannot be a user", mend)
    return text.lower()


def _user(line: Line) -> User:
    words = split_words(line.text)
    name = user_name(words[0])
    if len(words) == 1:
        raise BadValueError(f"{name} has no hash of a password", MEND)
    return User(password_hash(words[1]), ClientRule(USER, name, line.origin, name, read_scope(words[2:])))


def password_hash(text: str) -> str:
    """The same, if argon2 can verify with it, and within bounds."""
    found = _HASH.match(text)
    if found is None or len(_base64(found[4])) < LEAST_SALT or len(_base64(found[5])) < LEAST_HASH:
        raise BadValueError("the second word is no argon2 hash of a password", MEND)
    memory, passes, lanes = (int(found[place]) for place in (1, 2, 3))
    if not (0 < lanes <= MOST_LANES and 0 < passes <= MOST_PASSES and 8 * lanes <= memory <= MOST_MEMORY):
        what = f"the hash asks for m={memory} t={passes} p={lanes}"
        raise BadValueError(f"{what}; at most m={MOST_MEMORY} t={MOST_PASSES} p={MOST_LANES} is spent", MEND)
    return text


def _base64(text: str) -> bytes:
    """Without the padding that argon2 leaves out; b"" if it is none."""
    try:
        return a2b_base64(text + "=" * (-len(text) % 4))
    except Base64Error:
        return b""
