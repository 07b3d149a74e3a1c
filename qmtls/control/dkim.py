"""`dkim/DOMAIN.SELECTOR.key`: the keys that sign mail of our own domains (RFC 6376). Without them nothing is signed.

A file that cannot be used is a problem: mail that should be signed and is not may be refused, or believed to be forged.
"""

from __future__ import annotations

import re

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from qmtls.control.lists import BadValueError, ControlFiles, quote
from qmtls.control.pem import load_dkim_key
from qmtls.delivery.dkim import DkimKey
from qmtls.tls.names import canonical, is_host_name

DIRECTORY = "dkim"
SUFFIX = ".key"
NEXT = ".next"  # behind it: the record of this one may not be in the DNS yet
GOOD_BITS = 2048  # RFC 8301 section 3.2: signers should use no less

_SELECTOR = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
_NAME_MEND = f"name it DOMAIN.SELECTOR{SUFFIX}, for example example.org.mail{SUFFIX}"


def read_dkim_keys(files: ControlFiles) -> dict[str, tuple[DkimKey, ...]]:
    """By domain, those of one domain in the order of their selectors."""
    found: dict[str, tuple[DkimKey, ...]] = {}
    for entry in files.entries(DIRECTORY) or ():
        if entry.startswith(".") or entry.endswith(f"{SUFFIX}{NEXT}"):
            continue
        origin = files.origin(f"{DIRECTORY}/{entry}")
        if not entry.endswith(SUFFIX):
            files.warn(origin, f"is not used: keys there end in {SUFFIX}", _NAME_MEND)
            continue
        with files.collecting(origin):
            domain, selector = dkim_names(entry.removesuffix(SUFFIX))
            content = files.read(f"{DIRECTORY}/{entry}")
            if content is None:
                continue
            key = load_dkim_key(content)
            if isinstance(key, RSAPrivateKey) and key.key_size < GOOD_BITS:
                files.warn(origin, f"is an RSA key of {key.key_size} bits only", f"make one of {GOOD_BITS}")
            found[domain] = (*found.get(domain, ()), DkimKey(domain, selector, key, origin))
    return found


def dkim_names(text: str) -> tuple[str, str]:
    """Domain and selector of "DOMAIN.SELECTOR", canonical. BadValueError."""
    domain, _, selector = canonical(text).rpartition(".")
    if not is_host_name(domain):
        raise BadValueError(f"{quote(text)} names no domain with a selector behind it", _NAME_MEND)
    if not _SELECTOR.match(selector):
        raise BadValueError(f"{quote(selector)} is no selector", "use letters, digits and hyphens")
    return domain, selector
