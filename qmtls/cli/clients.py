"""`qmtls clients`: whom identities let in, from the ledger; and taking a rule away.

The list is of what was seen, and of rules of `tlsclients` that nobody ever used. A rule that is revoked stays in the
file as a comment with the date: why somebody is refused is then to be read where one looks for it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from qmtls.cli.history import ledger_of
from qmtls.cli.home import Home
from qmtls.cli.output import DONE, FINDINGS, Row, byte_count, clean, emit, local_time
from qmtls.cli.owner import as_owner_of
from qmtls.cli.parser import Commands, add_json
from qmtls.cli.pem import alone_in, read, replace
from qmtls.control.clientrules import client_rule, read_identity
from qmtls.control.lists import BadValueError, Line
from qmtls.ledger.clients import ClientRecord, client_records
from qmtls.tls.clients import ClientRule
from qmtls.tls.identities import Identity
from qmtls.tls.policy import Origin
from qmtls.wording import counted

RULES = "tlsclients"
USERS = "users"
SHOWN_ADDRESSES = 3  # of a client, as text; --json has all
DAY = 86400


def add(commands: Commands) -> None:
    parser = commands.add(
        "clients",
        "client identities seen, and taking one away",
        about="Lists who was let in by a rule of control/tlsclients or a password: the rule, the certificate and its\n"
        "end, how much, when last and from where. Rules that nobody used are listed too.",
        examples="  qmtls clients\n  qmtls clients --json\n  qmtls clients revoke joe@example.org",
    )
    parser.set_defaults(run=run_list, parser=parser)
    add_json(parser)
    revoke = Commands(parser, required=False).add(
        "revoke",
        "take a rule out of control/tlsclients",
        run=run_revoke,
        about="Takes every line with this rule out of control/tlsclients; each stays there as a comment with the\n"
        "date. RULE is the rule as it is written there, or its label=. A running service knows within seconds; open\n"
        "sessions at their next MAIL. Another rule may name the same certificate: `qmtls clients` shows it, and\n"
        "`qmtls cert revoke` shuts the certificate out whatever names it.",
        examples="  qmtls clients revoke joe@example.org\n  qmtls clients revoke spki:GvhC...=",
    )
    revoke.add_argument("rule", metavar="RULE")


# ------------------------------------------------------------ what was seen


def run_list(args: argparse.Namespace) -> int:
    home: Home = args.home
    records = _records(home)
    rules = [rule for _, rule in _rules(_lines(home.control / RULES))]
    now = time.time()
    emit(_rows(records, rules, home.control / USERS), args.json, lambda row: _text(row, now))
    return DONE


def _records(home: Home) -> list[ClientRecord]:
    with ledger_of(home) as ledger:
        return [] if ledger is None else client_records(ledger)


def _rows(records: Sequence[ClientRecord], rules: Sequence[ClientRule], users: Path) -> Iterator[Row]:
    known = {rule.identity for rule in rules}
    names = {line.split(maxsplit=1)[0] for line in _lines(users) if line.strip() and not line.startswith("#")}
    seen = set()
    for record in records:
        if record.client.certificate:
            identity = _identity(record.rule)
            seen.add(identity)
            yield _row(record, identity in known)
        else:
            yield _row(record, record.rule in names)
    for rule in rules:
        if rule.identity not in seen:
            yield _never_seen(rule)


def _row(record: ClientRecord, in_force: bool) -> Row:
    client = record.client
    return {
        "rule": record.rule,
        "in_force": in_force,
        "identity": client.identity,
        "certificate": f"sha256:{client.certificate}" if client.certificate else None,
        "not_after": client.not_after or None,
        "first_seen": record.first_seen,
        "last_seen": record.last_seen,
        "addresses": list(record.addresses),
        "messages": record.messages,
        "octets": record.octets,
    }


def _never_seen(rule: ClientRule) -> Row:
    return {
        "rule": rule.text,
        "in_force": True,
        "identity": None,
        "certificate": None,
        "not_after": None,
        "first_seen": None,
        "last_seen": None,
        "addresses": [],
        "messages": 0,
        "octets": 0,
    }


def _text(row: Row, now: float) -> str:
    gone = "" if row["in_force"] else "  (no such rule any more)"
    if row["last_seen"] is None:
        return clean(f"{row['rule']}  never seen")
    addresses = row["addresses"]
    assert isinstance(addresses, list)
    more = f" and {len(addresses) - SHOWN_ADDRESSES} more" if len(addresses) > SHOWN_ADDRESSES else ""
    volume = f"{counted(int(str(row['messages'])), 'message')}, {byte_count(int(str(row['octets'])))}"
    lines = [
        f"{row['rule']}{gone}",
        f"    last {local_time(float(str(row['last_seen'])))}  from {', '.join(addresses[:SHOWN_ADDRESSES])}{more}",
        f"    {volume}  since {local_time(float(str(row['first_seen'])))}",
    ]
    if row["certificate"]:
        lines.insert(1, f"    {row['identity']}  {row['certificate']}")
        lines.insert(2, f"    certificate {_end(int(str(row['not_after'])), now)}")
    return "\n".join(clean(line) for line in lines)


def _end(not_after: int, now: float) -> str:
    day = f"{datetime.fromtimestamp(not_after, UTC):%Y-%m-%d}"
    left = int((not_after - now) // DAY)
    return f"ended {day}" if left < 0 else f"ends {day} ({left} days left)"


# ------------------------------------------------------------ taking one away


def run_revoke(args: argparse.Namespace) -> int:
    home: Home = args.home
    path = home.control / RULES
    wanted, identity = str(args.rule), _identity(args.rule)
    if not wanted:
        args.parser.error("name a rule")
    with as_owner_of(path), alone_in(path.resolve().parent):
        lines = _lines(path)
        found = {
            number
            for number, rule in _rules(lines)
            if rule.identity == identity or wanted in (rule.text, rule.scope.label)
        }
        if not found:
            print(f"{path}: has no rule {clean(wanted)}")
            return FINDINGS
        today = f"{datetime.now(UTC):%Y-%m-%d}"
        kept = [f"# revoked {today}: {line}" if number in found else line for number, line in enumerate(lines)]
        replace(path, "".join(f"{line}\n" for line in kept).encode("utf-8", "surrogateescape"))
    for number in sorted(found):
        print(f"{path}:{number + 1}: {clean(lines[number])}: revoked")
    return DONE


def _lines(path: Path) -> list[str]:
    """As they are; [] if there is no such file."""
    if not path.exists():
        return []
    text = read(path).decode("utf-8", "surrogateescape")
    return text.removesuffix("\n").split("\n") if text else []


def _rules(lines: Sequence[str]) -> Iterator[tuple[int, ClientRule]]:
    """Each rule with the number of its line. Others are passed over: `qmtls check` names them."""
    for number, line in enumerate(lines):
        text = line.rstrip(" \t\r")
        if text and not text.startswith("#"):
            try:
                yield number, client_rule(Line(text, Origin(f"control/{RULES}", number + 1)))
            except BadValueError:
                continue


def _identity(text: str) -> Identity | None:
    """What a rule means, however it is written: colons in digests, letter case, quotes that the shell took away."""
    try:
        return read_identity(text)
    except BadValueError:
        return None
