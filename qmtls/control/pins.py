"""Pin files and flag files: `NAME.pem`, `tlshosts/`, `notlshosts/`.

Only "no such file" means no pin. A pin file that cannot be used stays in the rules as a broken one: mail for its name
waits, other mail goes on, and `qmtls check` fails.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address

from qmtls.control.lists import BadValueError, ControlFiles, quote, read_regular
from qmtls.tls.names import canonical, is_host_name, is_ip
from qmtls.tls.pin import PinError, pin_set, read_certificates
from qmtls.tls.policy import Origin, PinFile

EXHAUSTIVE = "exhaustivelist"

# Files of control that end in .pem and are no pins: ours, and those of earlier versions of the qmail patch.
_NOT_PINS = frozenset({"servercert", "clientcert", "clientca", "clientcrl", "cert", "dhparam", "dhparams"})
_HISTORIC = re.compile(r"(?:rsa|dh)[0-9]+\Z")


@dataclass(slots=True)
class HostFiles:
    """What the three directories say."""

    pins: dict[str, PinFile] = field(default_factory=dict)
    exhaustive: Origin | None = None
    no_tls: dict[str, Origin] = field(default_factory=dict)


def read_host_files(files: ControlFiles) -> HostFiles:
    """Every pin and flag, by canonical name."""
    found = HostFiles()
    for entry in files.entries("") or ():
        name = entry.removesuffix(".pem")
        if name != entry and name not in _NOT_PINS and not _HISTORIC.match(name):
            _add_pin(files, found, name, entry)
    _read_tlshosts(files, found)
    for entry in files.entries("notlshosts") or ():
        origin = files.origin(f"notlshosts/{entry}")
        host = _name(files, entry, origin)
        if host:
            found.no_tls[host] = origin
    for host in found.no_tls.keys() & found.pins.keys():
        what = f"{found.pins[host].origin} demands TLS for the same name, and wins"
        files.warn(found.no_tls[host], what, "remove one of the two")
    return found


def _read_tlshosts(files: ControlFiles, found: HostFiles) -> None:
    for entry in files.entries("tlshosts") or ():
        name = entry.removesuffix(".pem")
        if entry == EXHAUSTIVE:
            found.exhaustive = files.origin(f"tlshosts/{entry}")
        elif name != entry:
            _add_pin(files, found, name, f"tlshosts/{entry}")
        elif not entry.startswith("."):
            mend = f"name it {entry}.pem if it is meant to pin that host, else remove it"
            files.warn(files.origin(f"tlshosts/{entry}"), "is not used: pin files end in .pem", mend)


def _add_pin(files: ControlFiles, found: HostFiles, name: str, path: str) -> None:
    origin = files.origin(path)
    host = _name(files, name, origin)
    if not host:
        return
    pin = _read_pin(files, host, path)
    other = found.pins.get(host)
    if other is not None and other.pins != pin.pins:  # one that cannot be used pins nothing
        pin = PinFile(host, origin, problem=f"it and {other.origin} pin the same name differently")
    found.pins[host] = pin


def _read_pin(files: ControlFiles, host: str, path: str) -> PinFile:
    origin = files.origin(path)
    try:
        content = read_regular(files.control / path)
        if content is None:  # removed since the directory was listed
            return PinFile(host, origin, problem="it has just been removed")
        certificates = read_certificates(content[0])
        return PinFile(host, origin, pin_set(certificates), certificates=certificates)
    except BadValueError as bad:
        return PinFile(host, origin, problem=f"it {bad.what}")
    except PinError as problem:
        return PinFile(host, origin, problem=str(problem))


def _name(files: ControlFiles, text: str, origin: Origin) -> str:
    """The canonical name that a file stands for, "" (with a warning) if it can stand for none."""
    name = canonical(text)
    if is_ip(name):
        return str(ip_address(name))
    if is_host_name(name):
        return name
    if text.startswith("."):
        if is_host_name(name[1:]):  # not an editor's or a tool's hidden file
            files.warn(
                origin, "is not used: a file speaks for one name, not for all below it", "use tlspolicy for that"
            )
    else:
        files.warn(origin, f"is not used: {quote(text)} is no host name", "give it the name of a domain or host")
    return ""
