"""Our own recipients, as the files say them: virtualdomains, aliases, percenthack."""

from __future__ import annotations

from pathlib import Path

from qmtls.control.aliases import read_aliases
from qmtls.control.lists import ControlFiles
from qmtls.control.rights import read_locals, read_own_domain
from qmtls.control.values import host
from qmtls.control.virtual import read_virtual
from qmtls.recipients import Recipients


def read_recipients(files: ControlFiles, locals: frozenset[str], own_domain: str) -> Recipients:
    """With the local domains, and that of names without one, as `rights` reads them."""
    base = Recipients(
        locals=locals,
        virtual=read_virtual(files, locals),
        postmaster_host=own_domain,
        percent_hosts=_percent_hosts(files),
    )
    return read_aliases(files, base)


def load_recipients(control: Path, me: str) -> Recipients:
    """These files alone, for mail that is made on this host: it can be queued while others are being edited.

    Raises ControlError.
    """
    files = ControlFiles(control)
    locals = read_locals(files, me)
    found = read_recipients(files, locals, read_own_domain(files, me, locals))
    files.finish()
    return found


def _percent_hosts(files: ControlFiles) -> frozenset[str]:
    found = set()
    for line in files.lines("percenthack") or ():
        with files.collecting(line.origin):
            found.add(host(line.text))
    return frozenset(found)
