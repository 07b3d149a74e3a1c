"""`qmtls probe`: what would happen to mail for a domain or at a host, tried by the relayer's own code, without mail."""

from __future__ import annotations

import argparse
import json
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509

from qmtls.cli.home import Home
from qmtls.cli.hops import hop_of
from qmtls.cli.output import DONE, FINDINGS, CommandError, Row, clean
from qmtls.cli.owner import as_owner_of
from qmtls.cli.parser import Commands, add_json
from qmtls.control.compile import compile_control
from qmtls.control.lists import BadValueError
from qmtls.control.settings import ControlError, Settings
from qmtls.delivery.outcome import Fate
from qmtls.delivery.plan import NextHop
from qmtls.net.contexts import ContextError
from qmtls.service.oneshot import GaveUp, ask
from qmtls.service.probing import Stage, probe
from qmtls.tls.facts import TlsFacts
from qmtls.tls.names import shown_dn, shown_names
from qmtls.tls.pin import certificate_digest, is_ca, key_digest
from qmtls.tls.verdict import chain_problem

SECONDS = 120  # for all hosts together


def add(commands: Commands) -> None:
    parser = commands.add(
        "probe",
        "try the hosts of a domain as for mail, and send none",
        run=run,
        about="Looks up the hosts, connects to each, and says stage by stage what rule, DNS, STARTTLS and handshake\n"
        "came to, with the code and the control files that mail is sent by. No mail is sent: the last command is\n"
        "EHLO, or AUTH where control/authroutes has a login for the relay. Pins to paste are shown for each\n"
        "certificate. Exit status 0 if mail would go, 1 if it would wait or be returned.",
        examples="  qmtls probe example.org\n  qmtls probe mx.example.org:25 --for example.org\n"
        "  qmtls probe '[2001:db8::1]:587' --json\n  qmtls probe lmtp:unix:/run/dovecot/lmtp",
    )
    where = "with a port, --for, smtps:HOST or lmtp:HOST:PORT: this very host"
    parser.add_argument("destination", metavar="DOMAIN|HOST[:PORT]", help=where)
    parser.add_argument("--for", dest="domain", metavar="DOMAIN", help="the recipients' domain, where a host is named")
    parser.add_argument("--control", metavar="DIR", type=Path, help="another directory (default: HOME/control)")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=float, default=SECONDS, help=f"for all together (default: {SECONDS})"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    home: Home = args.home
    settings = compiled(home, args.control)
    hop = _next_hop(args, settings)
    if hop.domain in settings.access.locals and not hop.relay:
        raise CommandError(f"{hop.domain} is in control/locals: its mail stays here")
    show = _show_json if args.json else _Shown(str(hop))
    try:
        with as_owner_of(home.state):
            result = ask(settings, home.state, lambda bench: probe(bench, hop, show), args.timeout)
    except (GaveUp, ContextError) as problem:
        raise CommandError(str(problem)) from None
    good = result.fate is Fate.DELIVERED
    if args.json:
        print(json.dumps({"kind": "result", "ok": good, "fate": result.fate.value, "text": result.sentence}))
    elif good:
        print(f"=> {clean(result.sentence)}")
    else:
        print(f"=> mail would {'wait' if result.fate is Fate.DEFERRED else 'be returned'}: {clean(result.sentence)}")
    return DONE if good else FINDINGS


def compiled(home: Home, control: Path | None) -> Settings:
    """The control directory as the service would read it. CommandError."""
    try:
        with as_owner_of(control or home.control):
            return compile_control(control or home.control)
    except ControlError as problem:
        raise CommandError(f"{problem} (`qmtls check` shows all)") from None


def _next_hop(args: argparse.Namespace, settings: Settings) -> NextHop:
    try:
        hop = hop_of(args.destination, settings.routing, args.domain or "")
    except BadValueError as bad:
        args.parser.error(f"{bad.what}; name DOMAIN, HOST, HOST:PORT, [IPv6]:PORT, smtps:HOST or lmtp:HOST:PORT")
    return hop


# ------------------------------------------------------------ what is shown


def _show_json(stage: Stage) -> None:
    row: Row = {"kind": "stage", "host": stage.host, "stage": stage.name, "ok": stage.ok, "text": stage.text}
    print(
        json.dumps({**row, **(_facts_row(stage.facts, stage.verifies) if stage.facts is not None else {})}), flush=True
    )


class _Shown:
    """Prints stages as they come, under the name of their host."""

    def __init__(self, destination: str) -> None:
        self._host = ""
        print(clean(destination))

    def __call__(self, stage: Stage) -> None:
        if stage.host != self._host:
            self._host = stage.host
            print(clean(stage.host))
        self._line(stage.name if stage.ok else f"{stage.name} !", stage.text)
        if stage.facts is not None:
            for name, text in _facts_lines(stage.facts, stage.verifies):
                self._line(name, text)

    def _line(self, name: str, text: str) -> None:
        print(clean(f"  {name:<16} {text}"), flush=True)


def _facts_lines(facts: TlsFacts, verifies: bool) -> Iterator[tuple[str, str]]:
    if facts.leaf is None:
        yield "certificate !", "one that cannot be read" if facts.unreadable else "none"
        return
    for depth, certificate in enumerate(facts.chain or (facts.leaf,)):
        ends = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
        kind = ", a CA" if is_ca(certificate) else ""
        issuer = shown_dn(certificate.issuer)
        yield f"chain {depth}", f"{shown_dn(certificate.subject)}{kind}, by {issuer}, until {ends}"
    yield "names", shown_names(facts.leaf)
    if verifies:
        yield "verified", "yes" if facts.verified else f"no: {chain_problem(facts)}"
    yield "pin, certificate", f"match={_certificate_pin(facts.leaf)}"
    yield "pin, key", f"match={_key_pin(facts.leaf)}"


def _facts_row(facts: TlsFacts, verifies: bool) -> Row:
    leaf = facts.leaf
    row: dict[str, object] = {
        "version": facts.version,
        "cipher": facts.cipher,
        "group": facts.group or None,
        "verified": facts.verified if verifies else None,  # None = nobody asks
        "problem": chain_problem(facts) if verifies and not facts.verified and leaf is not None else None,
        "chain": [
            {
                "subject": shown_dn(one.subject),
                "issuer": shown_dn(one.issuer),
                "not_after": int(one.not_valid_after_utc.timestamp()),
                "ca": is_ca(one),
            }
            for one in facts.chain
        ],
    }
    if leaf is not None:
        row |= {"names": shown_names(leaf), "sha256": _certificate_pin(leaf), "spki": _key_pin(leaf)}
    return row


def _certificate_pin(leaf: x509.Certificate) -> str:
    return f"sha256:{certificate_digest(leaf).hex()}"


def _key_pin(leaf: x509.Certificate) -> str:
    try:
        return f"spki:{b64encode(key_digest(leaf)).decode('ascii')}"
    except (ValueError, IndexError):
        return "spki: of a key that cannot be read"
