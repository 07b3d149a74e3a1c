from __future__ import annotations

from pathlib import Path

import pytest

from qmtls.control.routes import read_routing
from qmtls.delivery.routes import Scheme
from qmtls.recipients import Recipients
from tests.control.directory import reader

Shown = tuple[str, int] | tuple[str, int, Scheme]


def routes(control: Path, text: str) -> dict[str, Shown]:
    """Relay and port by key; with the scheme where it is not SMTP."""
    files = reader(control, {"smtproutes": text})
    found = read_routing(files, Recipients(frozenset({"here.example"})))
    assert not files.problems, files.problems
    assert found.locals == {"here.example"}
    shown: dict[str, Shown] = {}
    for key, route in found.routes.items():
        plain = route.scheme is Scheme.SMTP
        shown[key] = (route.relay, route.port) if plain else (route.relay, route.port, route.scheme)
    return shown


@pytest.mark.parametrize(
    ("line", "key", "relay"),
    [
        ("a.example:relay.example", "a.example", ("relay.example", 25)),
        ("A.Example.:Relay.Example.:587", "a.example", ("relay.example", 587)),
        (".a.example:relay.example", ".a.example", ("relay.example", 25)),
        (":relay.example", "", ("relay.example", 25)),
        ("a.example:", "a.example", ("", 25)),
        ("a.example:[192.0.2.1]", "a.example", ("192.0.2.1", 25)),
        ("a.example:[192.0.2.1]:26", "a.example", ("192.0.2.1", 26)),
        ("a.example:192.0.2.1:26", "a.example", ("192.0.2.1", 26)),
        ("a.example:[2001:DB8::1]:26", "a.example", ("2001:db8::1", 26)),
        ("a.example:[relay.example]:26", "a.example", ("relay.example", 26)),
        ("a.example:smtps:relay.example", "a.example", ("relay.example", 465, Scheme.SMTPS)),
        ("a.example:SMTPS:[2001:db8::1]:4650", "a.example", ("2001:db8::1", 4650, Scheme.SMTPS)),
        ("a.example:relay.example:465", "a.example", ("relay.example", 465, Scheme.SMTPS)),
        (":lmtp:relay.example:24", "", ("relay.example", 24, Scheme.LMTP)),
        ("a.example:LMTP:[::1]:2424", "a.example", ("::1", 2424, Scheme.LMTP)),
        ("a.example:lmtp:unix:/run/dovecot/lmtp", "a.example", ("/run/dovecot/lmtp", 0, Scheme.LMTP)),
        ("a.example:lmtp:unix:/run/a:b c", "a.example", ("/run/a:b c", 0, Scheme.LMTP)),
        ("[192.0.2.9]:relay.example", "[192.0.2.9]", ("relay.example", 25)),
        ("[IPv6:2001:db8::9]:relay.example:26", "[ipv6:2001:db8::9]", ("relay.example", 26)),
    ],
)
def test_a_route(tmp_path: Path, line: str, key: str, relay: Shown) -> None:
    assert routes(tmp_path, line) == {key: relay}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a.example", "has no colon"),
        ("a.example:lmtp:host", "LMTP has no port of its own"),
        ("a.example:lmtp:", "no host name"),
        ("a.example:lmtp:unix:run/x", "cannot be the path of a socket"),
        ("a.example:lmtp:unix:/" + "x" * 107, "cannot be the path of a socket"),
        ("a.example:smtps:", "no host name"),
        ("a.example:smtps:host:0", "out of range"),
        ("a.example:relay:0", "out of range"),
        ("a.example:relay:25:26", "no whole number"),
        ("a.example:relay user password", "no host name"),
        ("user@a.example:relay", "no host name"),
        ("[192.0.2.9:relay", "no host name"),
        ("a.example:[relay", "no host name"),
    ],
)
def test_a_bad_route_is_a_problem_of_its_line(tmp_path: Path, line: str, words: str) -> None:
    files = reader(tmp_path, {"smtproutes": f"ok.example:relay\n{line}\n"})
    assert set(read_routing(files, Recipients()).routes) == {"ok.example"}
    (problem,) = files.problems
    assert str(problem.origin) == "control/smtproutes:2" and words in problem.what


def test_of_two_lines_the_last_counts_as_in_qmail_and_that_is_told(tmp_path: Path) -> None:
    files = reader(tmp_path, {"smtproutes": "a.example:one\nA.example:two\n"})
    route = read_routing(files, Recipients()).routes["a.example"]
    assert (route.relay, str(route.origin)) == ("two", "control/smtproutes:2")
    assert len(files.warnings) == 1
