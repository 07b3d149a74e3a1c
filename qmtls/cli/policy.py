"""`qmtls policy explain`: which TLS a destination gets, by which rule, and what a message waits for."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from qmtls.cli.bins import Entry, Queue
from qmtls.cli.handshakes import handshake_text, handshakes, sessions_text
from qmtls.cli.home import Home
from qmtls.cli.hops import hop_of
from qmtls.cli.output import DONE, FINDINGS, USAGE, CommandError, Row, clean, emit, local_time
from qmtls.cli.owner import as_owner_of
from qmtls.cli.parser import Commands, add_json
from qmtls.cli.probe import compiled
from qmtls.cli.reasons import again, changes
from qmtls.cli.retests import end_words, tls_words
from qmtls.control.lists import BadValueError
from qmtls.control.settings import Settings
from qmtls.control.values import host as host_name
from qmtls.delivery.demands import login_words, route_of
from qmtls.delivery.holds import Hold
from qmtls.delivery.plan import NextHop, jobs, literal_address, next_hop
from qmtls.delivery.routes import Scheme
from qmtls.delivery.terms import NO_TERMS, terms_words
from qmtls.net.contexts import ContextError
from qmtls.net.diskroom import is_full
from qmtls.net.snapshot import make_snapshot
from qmtls.net.stsfiles import StsFiles, canonical_domain
from qmtls.service.explaining import HostView, View, look, look_offline
from qmtls.service.oneshot import STS, Bench, GaveUp, ask
from qmtls.tls.evidence import StsEvidence
from qmtls.tls.explain import Considered, Standing, policy_words

SECONDS = 60
LOCAL_MAIL_ON = "control/concurrencylocal must be another number than 0"
MAX_MAIL = 3  # messages that wait for a domain, whose reasons are shown


def add(commands: Commands) -> None:
    explain = Commands(commands.add("policy", "which TLS a destination gets, and why")).add(
        "explain",
        "every rule considered, in order, and what mail waits for",
        run=run,
        about="Says for a recipient, a domain, a host or a queued message which rules were looked at, with file and\n"
        "line, which one wins and why the others do not, what DNS (DANE) and MTA-STS say and how old that is, what\n"
        "the last handshakes showed, and what a message's attempts said. No host is connected to; `qmtls probe` does\n"
        "that. Exit status 1 if mail waits, or would.",
        examples="  qmtls policy explain joe@example.org\n"
        "  qmtls policy explain example.org --host mx.example.org --offline\n"
        "  qmtls policy explain '[relay.example.net]:587'\n  qmtls policy explain QUEUE-ID",
    )
    relay = "a relay is HOST:PORT, smtps:HOST or lmtp:HOST:PORT"
    explain.add_argument("what", metavar="ADDRESS|DOMAIN|HOST|ID", help=relay)
    explain.add_argument("--host", metavar="HOST", help="as if this were the MX host (with --offline)")
    explain.add_argument("--offline", action="store_true", help="ask neither DNS nor policy hosts")
    explain.add_argument("--control", metavar="DIR", type=Path, help="another directory (default: HOME/control)")
    add_json(explain)


def run(args: argparse.Namespace) -> int:
    home: Home = args.home
    settings = compiled(home, args.control)
    entry = _message(home, args.what, settings)
    if entry is not None:
        return _explain_message(args, settings, entry)
    hop = _next_hop(args, settings)
    view = _view(args, settings, hop)
    rows = list(_hop_rows(hop, view, settings))
    rows += _seen(home, hop, view)
    rows += _waiting_rows(home, hop.domain)
    emit(rows, args.json, _text)
    return FINDINGS if _waits(rows) else DONE


def _next_hop(args: argparse.Namespace, settings: Settings) -> NextHop:
    text = str(args.what).rpartition("@")[2] if "@" in args.what else str(args.what)
    if "@" in args.what and literal_address(text):
        return next_hop(text.lower(), settings.routing)
    try:
        hop = hop_of(text, settings.routing)
    except BadValueError as bad:
        args.parser.error(f"{bad.what}; name ADDRESS, DOMAIN, [HOST]:PORT or the id of a message in the queue")
    return hop


def _view(args: argparse.Namespace, settings: Settings, hop: NextHop) -> View:
    home: Home = args.home
    if hop.domain in settings.access.locals and not hop.relay:
        return View(trouble=f"{hop.domain} is in control/locals: its mail stays here", status="2.0.0")
    try:
        if args.offline:
            return look_offline(make_snapshot(settings), hop, _host(args), _cached(home, hop.domain))

        async def question(bench: Bench) -> View:
            return await look(bench, hop)

        with as_owner_of(home.state):
            return ask(settings, home.state, question, SECONDS)
    except (GaveUp, ContextError) as problem:
        raise CommandError(str(problem)) from None


def _seen(home: Home, hop: NextHop, view: View) -> list[Row]:
    """What connections to its hosts showed last."""
    hosts = [(host.host or next(iter(host.addresses), ""), hop.port) for host in view.hosts]
    return [] if hop.is_socket else handshakes(home, hop.domain, hosts, time.time())


def _host(args: argparse.Namespace) -> str:
    try:
        return host_name(args.host) if args.host else ""
    except BadValueError as bad:
        raise CommandError(f"--host: {bad}", USAGE) from None


def _cached(home: Home, domain: str) -> StsEvidence:
    """What the service has kept of the domain's MTA-STS policy."""
    name = canonical_domain(domain)
    with as_owner_of(home.state):
        found = StsFiles(home.state / STS).read(name) if name else None
    if found is None:
        return StsEvidence(note="no policy of the domain is cached")
    if not found.is_fresh(time.time()):
        return StsEvidence(note=f"the cached policy with id {found.id} has expired")
    return StsEvidence(found)


# ------------------------------------------------------------ a message of the queue


def _message(home: Home, text: str, settings: Settings) -> Entry | None:
    """CommandError for one that cannot be read."""
    if "@" in text or not home.queue.is_dir():
        return None
    troubles: list[str] = []
    with Queue(home.queue, troubles.append, settings.holds) as queue:
        entry = next(queue.find([text], time.time()), None)
        if entry is None and queue.has(text):
            why = next((trouble for trouble in troubles if text in trouble), "it cannot be read")
            raise CommandError(f"its file in the queue cannot be read, so nobody tries it: {why}")
        return entry


def _explain_message(args: argparse.Namespace, settings: Settings, entry: Entry) -> int:
    rows: list[Row] = [_message_row(entry)]
    attempt = list(_attempt_rows(entry))
    rows += attempt
    kept: list[str] = []
    if is_full(entry.bin.path):
        text = "the disk of the queue is full, so what comes of attempts cannot be written down"
        rows.append({"kind": "trouble", "domain": "", "waits": True, "status": "4.3.1", "text": text})
        kept.append("there must be room on the disk of the queue")
    for job in jobs(entry.envelope, entry.to, settings.routing):
        if job.next_hop.local:
            rows += _local_rows(job.next_hop, settings)
            kept += [LOCAL_MAIL_ON] if settings.concurrency_local == 0 else []
        else:
            view = _view(args, settings, job.next_hop)
            rows += _hop_rows(job.next_hop, view, settings)
            kept += _kept(job.next_hop, view, settings)
            rows += _seen(args.home, job.next_hop, view)
    rows += [{"kind": "change", "text": text} for text in changes(entry, [str(row["text"]) for row in attempt], kept)]
    waits = tls_words(entry, settings.policy_retest)
    then = again(entry, time.time()), waits and f"it {waits}", end_words(entry, settings.policy_lifetime)
    rows += [{"kind": "then", "text": text} for text in then if text and not kept]
    emit(rows, args.json, _text)
    return FINDINGS


def _message_row(entry: Entry) -> Row:
    envelope = entry.envelope
    words = []
    if envelope.requiretls:
        words.append("REQUIRETLS")
    if envelope.tls_optional:
        words.append("TLS-Required: no")
    return {
        "kind": "message",
        "id": entry.id,
        "from": entry.sender,
        "to": entry.addresses,
        "says": words,
        "held": entry.held,
        "next": entry.next,
        "attempts": entry.attempts,
    }


def _attempt_rows(entry: Entry) -> Iterator[Row]:
    """The last attempt: a sentence for each recipient who still waits."""
    names = [str(recipient.address) for recipient in entry.envelope.recipients]
    waiting = set(entry.to)
    for attempt in reversed(entry.history):
        if attempt.event == "attempt":
            for index, sentence in attempt.reasons:
                if index in waiting:
                    yield {"kind": "attempt", "time": attempt.time, "to": names[index], "text": sentence}
            return


def _waiting_rows(home: Home, domain: str) -> Iterator[Row]:
    """What mail that waits for the domain was told last."""
    if not home.queue.is_dir():
        return
    shown = 0
    with Queue(home.queue, lambda trouble: None) as queue:
        for entry in queue.entries(time.time()):
            if shown < MAX_MAIL and any(entry.envelope.recipients[n].address.host == domain for n in entry.to):
                rows = [row for row in _attempt_rows(entry) if str(row["to"]).lower().endswith(f"@{domain}")]
                yield from ({**row, "id": entry.id} for row in rows[:1])
                shown += bool(rows)


# ------------------------------------------------------------ a next hop


def _hop_rows(hop: NextHop, view: View, settings: Settings) -> Iterator[Row]:
    yield {"kind": "route", "domain": hop.domain, "relay": hop.relay or None, "text": _route_words(hop, settings)}
    yield from _bounds(hop, settings)
    if view.trouble:
        waits = view.status.startswith("4")
        yield {"kind": "trouble", "domain": hop.domain, "waits": waits, "status": view.status, "text": view.trouble}
    for host in view.hosts:
        yield {"kind": "host", "domain": hop.domain, "host": host.host, "addresses": host.addresses}
        for rule in host.explanation.rules:
            yield _rule_row(hop, host, rule)
        if host.login is not None:
            yield {"kind": "login", "domain": hop.domain, "host": host.host, "text": login_words(host.login)}
        yield _demand_row(hop, host, settings.holds.of_host(host.host, time.time()))


def _local_rows(hop: NextHop, settings: Settings) -> Iterator[Row]:
    yield {"kind": "route", "domain": hop.domain, "text": "to a mailbox here; no TLS is asked for"}
    if settings.concurrency_local == 0:
        text = "control/concurrencylocal is 0: no mail is put into mailboxes"
        yield {"kind": "trouble", "domain": hop.domain, "waits": True, "status": "4.3.2", "text": text}


def _route_words(hop: NextHop, settings: Settings) -> str:
    if not hop.relay:
        return "to its MX hosts; no line of control/smtproutes sends it elsewhere"
    route = settings.routing.route_for(hop.domain)
    by = f", by {route.origin}" if route is not None and route.relay == hop.relay else ""
    if hop.is_socket:
        return f"to the socket {hop.relay}, by LMTP{by}"
    how = {Scheme.SMTP: "", Scheme.SMTPS: ", TLS from the first octet", Scheme.LMTP: ", by LMTP"}[hop.scheme]
    return f"to the relay {hop.relay} port {hop.port}{how}{by}"


def _rule_row(hop: NextHop, host: HostView, rule: Considered) -> Row:
    return {
        "kind": "rule",
        "domain": hop.domain,
        "host": host.host,
        "what": rule.what,
        "key": rule.key,
        "file": rule.origin.file if rule.origin is not None else None,
        "line": rule.origin.line if rule.origin is not None else None,
        "standing": rule.standing.value,
        "text": rule.why,
    }


def _bounds(hop: NextHop, settings: Settings) -> Iterator[Row]:
    """What keeps mail for it back, or makes it stand in line, whatever the hosts say."""
    row: Row = {"kind": "trouble", "domain": hop.domain, "waits": True, "status": "4.3.2"}
    if settings.concurrency_remote == 0:
        yield {**row, "text": "control/concurrencyremote is 0: no mail leaves this host"}
    paused = settings.holds.of_host(hop.domain, time.time())
    if paused is not None:
        yield {**row, "text": paused.sentence}
    terms = settings.terms.of(hop.domain, route_of(hop))
    if terms != NO_TERMS:
        yield {"kind": "terms", "domain": hop.domain, "text": f"{terms.origin}: {terms_words(terms)}"}


def _kept(hop: NextHop, view: View, settings: Settings) -> Iterator[str]:
    """What an operator would have to change for mail to be tried at all."""
    if settings.concurrency_remote == 0:
        yield "control/concurrencyremote must be another number than 0"
    names = [hop.domain, *(host.host for host in view.hosts)]
    paused = [settings.holds.of_host(name, time.time()) for name in names]
    if paused[0] is not None:
        yield f"the rule that holds it must go: {paused[0].sentence}"
    elif paused[1:] and all(paused[1:]):  # where one host is not, mail goes there
        yield from (f"the rule that holds it must go: {hold.sentence}" for hold in paused[1:] if hold is not None)


def _demand_row(hop: NextHop, host: HostView, paused: Hold | None) -> Row:
    demand = host.demand
    keeps = paused.sentence if paused is not None else host.unsafe
    return {
        "kind": "demand",
        "domain": hop.domain,
        "host": host.host,
        "level": demand.level.value,
        "rule": demand.why or str(demand.origin),
        "waits": bool(demand.broken or demand.skip or keeps),
        "text": keeps or policy_words(demand, settled=bool(host.addresses)),
    }


def _waits(rows: Sequence[Row]) -> bool:
    demands = [row for row in rows if row["kind"] == "demand"]
    return any(row.get("waits") for row in rows if row["kind"] == "trouble") or (
        bool(demands) and all(row["waits"] for row in demands)
    )


# ------------------------------------------------------------ as text


def _text(row: Row) -> str:
    return clean(_TEXTS[str(row["kind"])](row))


def _message_text(row: Row) -> str:
    to, says, due = row["to"], row["says"], row["next"]
    assert isinstance(to, list) and isinstance(says, list)
    when = "held" if row["held"] else _when(float(str(due)))
    said = f"; it says {', '.join(says)}" if says else ""
    return f"{row['id']}  from <{row['from']}> to {', '.join(f'<{one}>' for one in to)}  {when}{said}"


def _when(due: float) -> str:
    return f"{'next' if due > time.time() else 'due since'} {local_time(due)}"


def _attempt_text(row: Row) -> str:
    who = f"{row['id']}, " if row.get("id") else ""
    return f"  last attempt, {who}{local_time(float(str(row['time'])))}, <{row['to']}>: {row['text']}"


def _host_text(row: Row) -> str:
    addresses = row["addresses"]
    assert isinstance(addresses, tuple)
    host = row["host"] or "(its MX hosts are not known)"
    shown = [address for address in addresses if address != host]
    return f"  {host}" + (f" ({', '.join(shown)})" if shown else "")


def _rule_text(row: Row) -> str:
    place = row["what"]
    if row["file"]:
        place = f"{row['file']}:{row['line']}" if row["line"] else row["file"]
    mark = "*" if row["standing"] == Standing.WINS.value else " "
    key = f" {row['key']}" if row["key"] and row["file"] != place else ""
    standing = "" if row["standing"] == Standing.ASKED.value else f"{row['standing']}: "
    return f"   {mark} {row['what'] if not row['file'] else place}{key}: {standing}{row['text']}"


_TEXTS: dict[str, Callable[[Row], str]] = {
    "message": _message_text,
    "attempt": _attempt_text,
    "route": lambda row: f"{row['domain']}: {row['text']}",
    "trouble": lambda row: f"  {'mail waits' if row['waits'] else 'no host is tried'}: {row['text']}",
    "host": _host_text,
    "rule": _rule_text,
    "terms": lambda row: f"  at most: {row['text']}",
    "login": lambda row: f"     login: {row['text']}",
    "demand": lambda row: f"    => {'mail waits: ' if row['waits'] else ''}{row['text']} ({row['rule']})",
    "handshake": handshake_text,
    "sessions": sessions_text,
    "change": lambda row: f"  has to change: {row['text']}",
    "then": lambda row: f"  then: {row['text']}",
}
