"""`qmtls init`: a home that works at once, with a local CA, our certificates and one example client.

Nothing is ever overwritten: if any file that it would make exists, it says so and makes none. A directory with
other things in it is fine.
"""

from __future__ import annotations

import argparse
import socket
from collections.abc import Iterator
from pathlib import Path

from qmtls.cli.authority import Authority, RequestError, host_name, make_ca, make_request, new_key, sign
from qmtls.cli.home import why
from qmtls.cli.output import DONE, CommandError
from qmtls.cli.parser import Commands
from qmtls.cli.pem import PRIVATE, bundle, certificates_pem, write, write_authority

LISTEN = "smtp tcp:2525:interface=127.0.0.1"

_OPEN = 0o755
_OURS = 0o700
_DIRECTORIES = {
    "control": _OPEN,
    "clients": _OURS,
    "queue": _OURS,
    "mail": _OURS,
    "mail/postmaster": _OURS,
    "mail/postmaster/tmp": _OURS,
    "mail/postmaster/new": _OURS,
    "mail/postmaster/cur": _OURS,
    "state": _OURS,
    "state/ca": _OURS,
}
_CERTIFICATES = (
    "state/ca/ca.key",
    "state/ca/ca.pem",
    "control/clientca.pem",
    "control/servercert.pem",
    "control/clientcert.pem",
    "clients/ca.pem",
    "clients/example.pem",
)


def add(commands: Commands) -> None:
    parser = commands.add(
        "init",
        "make a home that works at once",
        run=run,
        about="Makes HOME with control files, a queue, a mailbox for postmaster, a local CA, our server and client\n"
        "certificate, and one example client that may relay. Nothing that exists is overwritten.",
        examples="  qmtls init /var/qmtls --me mail.example.org\n  qmtls init ~/trial",
    )
    # Another name than the global option's, so that neither hides the other.
    parser.add_argument("directory", metavar="HOME", type=Path)
    parser.add_argument("--me", metavar="NAME", help="the name of this host (default: what the system calls itself)")


def run(args: argparse.Namespace) -> int:
    root: Path = args.directory.absolute()
    try:
        me = host_name(args.me or socket.gethostname())
    except RequestError as problem:
        raise CommandError(f"{problem}; give the name of this host by --me") from None
    files = _control_files(me)
    taken = [name for name in (*files, *_CERTIFICATES) if (root / name).exists()]
    if taken:
        raise CommandError(f"{root}: holds {', '.join(taken)} already; nothing was changed")
    _make_directories(root)
    for name, text in files.items():
        write(root / name, text.encode("ascii"))
    _make_certificates(root, me)
    print("\n".join(_report(root, me)))
    return DONE


def _control_files(me: str) -> dict[str, str]:
    return {
        "control/me": f"{me}\n",
        "control/locals": f"{me}\n",
        "control/rcpthosts": f"{me}\n",
        "control/listen": f"{LISTEN}\n",
        "control/tlsclients": f"# Who may relay: an e-mail address of a certificate that chains to clientca.pem,\n"
        f"# or sha256:HEX of a certificate, or spki:BASE64 of a key. `qmtls cert show FILE` prints these lines.\n"
        f"example@{me}\n",
    }


def _make_directories(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        for name, mode in _DIRECTORIES.items():
            path = root / name
            if not path.is_dir():
                path.mkdir()
                path.chmod(mode)  # whatever the umask says
    except OSError as problem:
        raise CommandError(f"{problem.filename}: {why(problem)}") from None


def _make_certificates(root: Path, me: str) -> None:
    authority = make_ca(f"qmtls local CA of {me}")
    write_authority(authority, root / "state/ca")
    trust = certificates_pem(authority.chain)
    write(root / "control/clientca.pem", trust)
    write(root / "clients/ca.pem", trust)
    write(root / "control/servercert.pem", _issue(authority, hosts=(me, "localhost", "127.0.0.1")), PRIVATE)
    write(root / "control/clientcert.pem", _issue(authority, hosts=(me,)), PRIVATE)
    write(root / "clients/example.pem", _issue(authority, emails=(f"example@{me}",)), PRIVATE)


def _issue(authority: Authority, hosts: tuple[str, ...] = (), emails: tuple[str, ...] = ()) -> bytes:
    """A fresh key with its certificate, as one bundle. Equal names are asked for once."""
    key = new_key()
    request = make_request(key, tuple(dict.fromkeys(hosts)), emails)
    return bundle(key, (sign(authority, request), *authority.intermediates))


def _report(root: Path, me: str) -> Iterator[str]:
    yield f"Made {root} for {me}:"
    yield f"  control/       me, locals, rcpthosts ({me}), listen ({LISTEN}), tlsclients"
    yield "                 servercert.pem, clientcert.pem, clientca.pem"
    yield "  state/ca/      the local CA; keep ca.key to yourself"
    yield f"  clients/       example.pem: key and certificate of example@{me}, who may relay; ca.pem: their trust"
    yield f"  mail/          a mailbox for postmaster@{me}"
    yield "  queue/         mail in transit"
    yield "Next:"
    yield f"  qmtls --home {root} check"
    yield f"  twistd -n --pidfile= qmtls --home {root}"
    yield f"  swaks --server 127.0.0.1:2525 --to postmaster@{me} --tls"
    yield "  swaks --server 127.0.0.1:2525 --to someone@elsewhere.example --tls \\"
    yield f"        --tls-cert {root}/clients/example.pem --tls-key {root}/clients/example.pem"
