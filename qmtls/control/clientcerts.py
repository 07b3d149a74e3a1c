"""`clientcerts/NAME.pem`: the certificate that we show to one next hop, or `none` to show none.

NAME is a recipient domain, an MX host or the relay of a route. Some partners know us by a certificate of theirs; some
hosts break off when one is offered at all.
"""

from __future__ import annotations

from ipaddress import ip_address

from qmtls.control.lists import Content, ControlFiles, quote
from qmtls.control.pem import load_credential
from qmtls.control.settings import Credential
from qmtls.tls.names import canonical, is_host_name, is_ip

DIRECTORY = "clientcerts"
NONE = b"none"


def read_client_credentials(files: ControlFiles) -> dict[str, Credential | None]:
    """By canonical name; None = show none. What cannot be used is a problem: another certificate might tell more about
    us than was meant, or open less."""
    found: dict[str, Credential | None] = {}
    for entry in files.entries(DIRECTORY) or ():
        if entry.startswith("."):
            continue
        path = f"{DIRECTORY}/{entry}"
        name = canonical(entry.removesuffix(".pem"))
        name = str(ip_address(name)) if is_ip(name) else name
        if not entry.endswith(".pem") or not (is_ip(name) or is_host_name(name)):
            mend = "name it NAME.pem, NAME being a domain or a host, or remove it"
            files.problem(files.origin(path), f"{quote(entry)} is no name of a next hop", mend)
            continue
        content = files.read(path)
        if content is not None:
            with files.collecting(content.origin):
                found[name] = _credential(content)
    return found


def _credential(content: Content) -> Credential | None:
    return None if content.data.strip().lower() == NONE else load_credential(content)
