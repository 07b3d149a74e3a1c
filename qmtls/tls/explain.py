"""Why a destination gets the TLS demand that it gets: every rule in order of precedence, and what became of it.

Pure, and beside `policy.find_policy`, not in it: mail pays nothing for it. That both say the same is tested with rules
made at random.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from enum import Enum

from qmtls.tls.dane import Demand
from qmtls.tls.evidence import NO_EVIDENCE, DaneEvidence, Evidence, StsEvidence, dane_decides, decided
from qmtls.tls.names import canonical, is_ip
from qmtls.tls.policy import Level, Origin, Policy, PolicyLine, PolicyRules, with_names
from qmtls.tls.strength import at_least
from qmtls.tls.sts import StsMode

MAX_SHOWN = 3  # names, patterns and records that a sentence quotes


class Standing(Enum):
    """What became of one rule."""

    WINS = "wins"
    ASKED = "is asked"  # evidence that the winning rule wants, and that decides nothing
    ABSENT = "is not there"
    LATER = "comes later"  # it holds here too, but another comes before it
    ENDED = "has ended"
    UNASKED = "is not asked"  # the winning rule wants no evidence


@dataclass(frozen=True, slots=True)
class Considered:
    """One rule, or one place where there is none. `why` is a sentence fragment for people."""

    what: str  # "pin file of the domain"
    key: str  # what was looked up: "example.org", "[mx.test]:25", "" for a default
    origin: Origin | None
    standing: Standing
    why: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """`rule` is what `find_policy` finds, `policy` what the evidence makes of it."""

    rules: tuple[Considered, ...]
    rule: Policy
    policy: Policy


@dataclass(frozen=True, slots=True)
class _Place:
    """One place to look in. `policy` None: nothing is there, and `absent` says so."""

    what: str
    key: str
    policy: Policy | None
    absent: str
    line: PolicyLine | None = None


def considered(
    rules: PolicyRules,
    domain: str,
    host: str,
    route: str = "",
    evidence: Evidence = NO_EVIDENCE,
    now: datetime | None = None,
) -> Explanation:
    """As `find_policy(rules, domain, host, route=route, today=today)` and then `decided`, with all on the way there.

    Without `now` every line holds, and nothing has an age.
    """
    today = now.date() if now is not None else None
    places = list(_places(rules, canonical(domain), canonical(host), canonical(route)))
    winner = _winner(places, 0, today)
    rule = places[winner].policy
    assert rule is not None
    if rules.identities and rule.level is not Level.NONE:
        shown = next((name for name in (canonical(domain), canonical(host)) if name in rules.identities), "")
        rule = replace(rule, identity=shown) if shown else rule
    policy = decided(rule, evidence, host)
    found = [_judged(place, n, winner, places, today) for n, place in enumerate(places)]
    # The default is the last one; DNS and MTA-STS come before it.
    seconds = now.timestamp() if now is not None else None
    found[-1:-1] = [_by_dane(rule, policy, evidence, seconds), _by_sts(rule, policy, evidence, seconds)]
    if any(one.standing is Standing.WINS for one in found[-3:-1]):
        first = next(one for one in found[-3:-1] if one.standing is Standing.WINS)
        found = [_overtaken(one, first) if one.standing is Standing.WINS and one is not first else one for one in found]
    return Explanation(tuple(found), rule, policy)


def _places(rules: PolicyRules, domain: str, host: str, route: str) -> Iterator[_Place]:
    if domain:
        yield _Place("pin file of the domain", domain, rules.domain_pins.get(domain), f"no {domain}.pem")
    if host and host != domain:
        yield _Place("pin file of the host", host, rules.host_pins.get(host), f"no {host}.pem")
    for key in _keys(domain, route):
        line = rules.lines.get(key)
        policy = with_names(line.policy, line.match, host, host if route else domain) if line is not None else None
        yield _Place("tlspolicy", key, policy, "no such line", line)
    flag = rules.no_tls.get(host)
    plain = Policy(Level.NONE, flag, why=f"flag file {flag}") if flag is not None else None
    yield _Place("notlshosts", host, plain, "no such file" if host else "the host is not known")
    yield _Place("tlshosts/exhaustivelist", "", *_exhaustive(rules, host))
    default = with_names(rules.default, rules.default_match, host, host if route else domain)
    yield _Place("tlsdefault", "", default, "")


def _exhaustive(rules: PolicyRules, host: str) -> tuple[Policy | None, str]:
    if rules.exhaustive is None:
        return None, "no such file"
    if not host or is_ip(host):
        return None, "it says nothing of a host without a name"
    return Policy(Level.NONE, rules.exhaustive, why=f"{rules.exhaustive} (no pin file for this host)"), ""


def _keys(domain: str, route: str) -> Iterator[str]:
    if domain:
        yield domain
        yield from (domain[place:] for place, sign in enumerate(domain) if sign == ".")
    if route:
        yield from (route, route.rpartition("]")[0] + "]")


def _winner(places: list[_Place], start: int, today: date | None) -> int:
    for number in range(start, len(places)):
        place = places[number]
        if place.policy is None:
            continue
        if not _is_over(place, today):
            return number
        without = _winner(places, number + 1, today)
        instead = places[without].policy
        assert instead is not None
        return without if at_least(instead, place.policy) else number
    raise AssertionError("tlsdefault is always there")


def _is_over(place: _Place, today: date | None) -> bool:
    line = place.line
    return line is not None and line.until is not None and today is not None and today > line.until


def _judged(place: _Place, number: int, winner: int, places: list[_Place], today: date | None) -> Considered:
    policy = place.policy
    if policy is None:
        return Considered(place.what, place.key, None, Standing.ABSENT, place.absent)
    words = _line_words(place, policy)
    standing, why = Standing.LATER, f"{words}; {_name(places[winner])} comes before it"
    if number == winner:
        standing, why = Standing.WINS, words
        if _is_over(place, today):
            assert place.line is not None
            why = f"{words}; its until={place.line.until} has passed, but what applies without it is weaker"
    elif number < winner:
        assert place.line is not None
        standing = Standing.ENDED
        why = f"its until={place.line.until} has passed, and what applies without it is as strong"
    return Considered(place.what, place.key, policy.origin, standing, why)


def _name(place: _Place) -> str:
    assert place.policy is not None
    return str(place.policy.origin)


def _line_words(place: _Place, policy: Policy) -> str:
    words = policy_words(policy)
    line = place.line
    if line is None:
        return words
    notes = (f"owner {line.owner}" if line.owner else "", f"reason: {line.reason}" if line.reason else "")
    return "; ".join(filter(None, (words, *notes)))


# ------------------------------------------------------------ DNS and MTA-STS


def _by_dane(rule: Policy, policy: Policy, evidence: Evidence, now: float | None) -> Considered:
    if rule.broken or rule.skip or not rule.asks_dane:
        return Considered("DANE", "", None, Standing.UNASKED, f"{rule.origin} decides by itself")
    if evidence.dane is None:
        return Considered("DANE", "", None, Standing.ASKED, "was not looked up")
    dane = evidence.dane
    owner = dane.tlsas.owner if dane.tlsas is not None else ""
    unusable = dane.tlsas is not None and dane.tlsas.demand is Demand.ENCRYPT
    decides = dane_decides(rule, dane) or (unusable and policy.level is Level.ENCRYPT)  # else another asks for more
    standing = Standing.WINS if decides and _overtakes(rule) else Standing.ASKED
    return Considered("DANE", owner, None, standing, dane_words(dane, now))


def _by_sts(rule: Policy, policy: Policy, evidence: Evidence, now: float | None) -> Considered:
    if rule.broken or rule.skip or not rule.asks_sts:
        return Considered("MTA-STS", "", None, Standing.UNASKED, f"{rule.origin} decides by itself")
    if evidence.sts is None:
        if evidence.dane is not None:
            decided_by_dane = dane_decides(rule, evidence.dane)
            why = (
                "DANE has decided" if decided_by_dane else "it is about a domain's MX hosts, and says nothing of relays"
            )
            return Considered("MTA-STS", "", None, Standing.UNASKED, why)
        return Considered("MTA-STS", "", None, Standing.ASKED, "was not looked up")
    known = evidence.sts.policy
    enforced = known is not None and known.policy.mode is StsMode.ENFORCE
    standing = Standing.WINS if enforced and _overtakes(rule) and policy.level is Level.STS else Standing.ASKED
    return Considered(
        "MTA-STS", known.domain if known is not None else "", None, standing, sts_words(evidence.sts, now)
    )


def _overtakes(rule: Policy) -> bool:
    """Evidence goes before the default; a line of tlspolicy that asks for it is the rule that wins."""
    return rule.discovers


def _overtaken(one: Considered, first: Considered) -> Considered:
    return replace(one, standing=Standing.LATER, why=f"{one.why}; {first.what} comes before it")


def dane_words(dane: DaneEvidence, now: float | None = None) -> str:
    """What the TLSA records of a host say, and how old that is."""
    age = _age(dane.asked, now)
    tlsas = dane.tlsas
    if dane.trouble:
        return f"nobody can tell: {dane.trouble}{age}"
    if tlsas is None:
        return "there is nothing to ask for: the host is known by its IP address only"
    if not tlsas.secure:
        return (
            f"says nothing: the answer for {tlsas.base} is not signed, or our resolver is not trusted to check it{age}"
        )
    unsigned = "" if dane.mx_secure else "; the MX record that names the host is not signed"
    match tlsas.demand:
        case Demand.NOTHING:
            return f"no TLSA records at {tlsas.owner} (a signed answer){unsigned}{age}"
        case Demand.ENCRYPT:
            reasons = "; ".join(tlsas.unusable[:MAX_SHOWN])
            text = f"of the records at {tlsas.owner} none can be used ({reasons}): TLS at least"
            return text + unsigned + age
        case Demand.MATCH:
            records = ", ".join(map(str, tlsas.usable[:MAX_SHOWN]))
            more = f" and {len(tlsas.usable) - MAX_SHOWN} more" if len(tlsas.usable) > MAX_SHOWN else ""
            return f"the certificate must match {records}{more} at {tlsas.owner}{unsigned}{age}"


def sts_words(sts: StsEvidence, now: float | None = None) -> str:
    """What the domain's MTA-STS policy says, and how old that is."""
    known = sts.policy
    if known is None:
        return sts.note or "the domain has no policy"
    mx = ", ".join(known.policy.mx[:MAX_SHOWN]) + (", ..." if len(known.policy.mx) > MAX_SHOWN else "")
    end = f"{datetime.fromtimestamp(known.expires, UTC):%Y-%m-%d %H:%M} UTC"
    age = f", fetched{_age(known.fetched, now).lstrip(',')}" if now is not None else ""
    seen = f", its record seen{_age(known.checked, now).lstrip(',')}" if now is not None else ""
    text = f"policy of {known.domain}, id {known.id}, mode {known.policy.mode.value}, for {mx or 'no host'}"
    return f"{text}{age}{seen}, until {end}"


def _age(then: float, now: float | None) -> str:
    if now is None or not then:
        return ""
    seconds = max(0, round(now - then))
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length:
            return f", {seconds // length} {unit}s ago"
    return f", {seconds} seconds ago" if seconds > 1 else ", just now"


# ------------------------------------------------------------ a demand in words


def policy_words(policy: Policy, *, settled: bool = False) -> str:
    """What must be true before mail goes: "TLS and a certificate for mx.example.org by the system's authorities".

    `settled`: DNS and MTA-STS have had their say.
    """
    if policy.broken or policy.skip:
        return policy.broken or policy.skip
    return "; ".join([_level_words(policy), *_extras(policy, settled)])


def _level_words(policy: Policy) -> str:
    match policy.level:
        case Level.NONE:
            return "plaintext"
        case Level.MAY:
            return "TLS if the host offers it, whatever certificate; else plaintext"
        case Level.ENCRYPT:
            return "TLS, whatever certificate"
        case Level.DANE if policy.tlsas is None:
            return "what DANE says, else MTA-STS, else TLS if the host offers it"
        case Level.DANE_ONLY if policy.tlsas is None:
            return "what DANE says, and nothing less"
        case Level.DANE | Level.DANE_ONLY:
            assert policy.tlsas is not None
            return f"TLS and a certificate that matches the TLSA records at {policy.tlsas.owner}"
        case Level.STS if not policy.names:
            return "a host of the domain's MTA-STS policy, verified"
        case Level.PIN:
            return _pin_words(policy)
        case Level.VERIFY | Level.SECURE | Level.STS:
            return f"TLS and a certificate for {_or(policy.names)} by {_authorities(policy)}"


def _pin_words(policy: Policy) -> str:
    count = len(policy.pins.keys | policy.pins.certificates)
    text = f"TLS and {'the pinned key' if count == 1 else f'one of {count} pinned keys'}"
    if policy.pins.anchors:
        text += f", or a certificate for {_or(policy.names)} by a pinned CA"
    return text


def _authorities(policy: Policy) -> str:
    if policy.anchors is None:
        return "the system's authorities"
    return "the authority of its tafile" if len(policy.anchors) == 1 else f"one of {len(policy.anchors)} authorities"


def _extras(policy: Policy, settled: bool) -> Iterator[str]:
    if policy.level is Level.NONE:
        return
    if policy.discovers and policy.level is not Level.DANE and not settled:
        yield "DANE and MTA-STS come before it"
    if policy.min_version:
        yield f"{policy.min_version} or newer"
    if policy.max_version:
        yield f"{policy.max_version} or older"
    if policy.pq:
        yield "a hybrid post-quantum group"
    if policy.wish is not None:
        yield f"not enforced yet: {policy.wish.why}"
    if policy.identity:
        yield f"we show clientcerts/{policy.identity}.pem"


def _or(names: tuple[str, ...]) -> str:
    shown = [f"a name below {name[1:]}" if name.startswith(".") else name for name in names]
    return " or ".join(shown) or "a name that is not known yet"
