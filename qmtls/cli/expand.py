"""The recipients of mail that is made on this host, with aliases in place.

Loaded only where there is something to expand: what reads the control files costs more to start than all the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qmtls.cli.home import Home
from qmtls.cli.inject import BadControl
from qmtls.cli.owner import as_owner_of
from qmtls.control.recipients import load_recipients
from qmtls.control.settings import ControlError
from qmtls.net.mailboxes import Mailboxes
from qmtls.smtp.address import Address


def expand(home: Home, me: str, addresses: Sequence[Address]) -> Sequence[Address]:
    """Each recipient once. Who does not exist stays: the report tells the sender. BadControl."""
    is_mailbox = Mailboxes(home.mail).may_exist
    try:
        with as_owner_of(home.queue):
            ours = load_recipients(home.control, me)
            return tuple(dict.fromkeys(path for address in addresses for path in ours.expand(address, is_mailbox)))
    except ControlError as problem:
        raise BadControl(str(problem)) from None


def locality(home: Home, me: str) -> Callable[[Address], bool]:
    """Whether an address is one of ours; of none if the control files cannot be read."""
    try:
        with as_owner_of(home.queue):
            ours = load_recipients(home.control, me)
    except ControlError:
        return lambda address: False
    return lambda address: bool(ours.names(address))
