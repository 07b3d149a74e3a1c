"""`servercerts/`: certificates by the name that a client asks for (SNI, RFC 6066 section 3).

NAME.pem serves NAME, `_.example.org.pem` every name with one label before example.org; `servercert.pem` serves all
else, and those who ask for nothing. A file that cannot be used is a problem: clients would be shown another name's
certificate, and those that verify it would go away.
"""

from __future__ import annotations

from qmtls.control.lists import BadValueError, ControlFiles, quote
from qmtls.control.pem import load_credential
from qmtls.control.settings import Credential
from qmtls.tls.names import canonical, is_host_name, name_matches

DIRECTORY = "servercerts"
WILD = "_."  # "*" in the name of a file is a trap for every shell

_NAME_MEND = "name the file as the host that clients ask for, or _.DOMAIN.pem for the hosts of a domain"


def read_server_credentials(files: ControlFiles) -> dict[str, Credential]:
    """By canonical name; ".example.org" stands for names with one label before it."""
    found: dict[str, Credential] = {}
    for entry in files.entries(DIRECTORY) or ():
        if entry.startswith("."):
            continue
        origin = files.origin(f"{DIRECTORY}/{entry}")
        if not entry.endswith(".pem"):
            files.warn(origin, "is not used: certificates there end in .pem", f"name it {entry}.pem, or remove it")
            continue
        with files.collecting(origin):
            name = _name(entry.removesuffix(".pem"))
            content = files.read(f"{DIRECTORY}/{entry}")
            if content is not None:
                found[name] = load_credential(content)
                _look_at_names(files, found[name], name)
    return found


def _name(text: str) -> str:
    """As the rules look it up. BadValueError."""
    name = canonical(text.removeprefix(WILD))
    if not is_host_name(name):
        raise BadValueError(f"{quote(text)} is no host name", _NAME_MEND)
    return f".{name}" if text.startswith(WILD) else name


def _look_at_names(files: ControlFiles, credential: Credential, name: str) -> None:
    """Worth a warning only: who asks for a name need not verify it."""
    if not name_matches(credential.chain[0], (f"any{name}" if name.startswith(".") else name,)):
        shown = f"*{name}" if name.startswith(".") else name
        mend = "put there a certificate with that name in it, or rename the file"
        files.warn(credential.origin, f"its certificate is not for {shown}: clients that verify it go away", mend)
