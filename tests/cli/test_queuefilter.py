"""Filters mean what they say, whatever way an address is written; what they cannot mean is wrong usage."""

from __future__ import annotations

import argparse

import pytest

from qmtls.cli.bins import Entry
from qmtls.cli.parser import Parser
from qmtls.cli.queuefilter import add_filters, filtered, wanted
from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Arrival, Envelope, Recipient
from qmtls.spool.api import Waiting
from qmtls.spool.maildir import MaildirSpool
from qmtls.spool.record import encode_envelope
from tests.cli.conftest import Cli
from tests.cli.test_queue import queue as queue

NOW = 1_795_000_000.0


def read(*arguments: str) -> argparse.Namespace:
    parser = Parser()
    add_filters(parser)
    return parser.parse_args(arguments)


def means(option: str, value: str, envelope: Envelope) -> bool:
    """What the filter says, and its look at the octets rules out nothing else."""
    spool: MaildirSpool = None  # type: ignore[assignment]  # is not asked
    start = encode_envelope(envelope, 0)
    meant = wanted(read(f"{option}={value}"), NOW, ruled=False)
    found = meant.entry(Entry(spool, Waiting("id", NOW), envelope, 0, b"", (0,), {}))
    return found and meant.octets.start(start, len(start))


def envelope(address: str, client: str = "192.0.2.1", helo: str = "client.test", identity: str = "") -> Envelope:
    local_part, _, domain = address.rpartition("@")
    one = Address(local_part, domain) if local_part else Address(domain, "")
    return Envelope(one, (Recipient(one),), Arrival(NOW, client, helo, "ESMTP", "", identity))


@pytest.mark.parametrize("option", ["--from", "--to"])
@pytest.mark.parametrize(
    ("value", "address", "meant"),
    [
        ("ann@b.test", "Ann@B.Test", True),
        ("ANN@B.TEST.", "ann@b.test", True),
        ('"ann"@b.test', "ann@b.test", True),
        ('"a b"@b.test', '"A b"@b.test', True),
        ("ann@m\u00fcnchen.example", "ann@xn--mnchen-3ya.example", True),
        ("ann@xn--mnchen-3ya.example", "ann@M\u00fcnchen.example", True),
        ("@M\u00dcNCHEN.example", "ann@xn--mnchen-3ya.example", True),
        ("\u00e9@b.test", "\u00e9@b.test", True),
        ("list-return-7-@lists.test-@[]", "list-return-7-@lists.test-@[]", True),
        ("@[192.0.2.1]", "ann@[192.0.2.1]", True),
        ("postmaster", "Postmaster", True),
        (".test", "ann@b.test", True),
        (".b.test", "ann@b.test", False),
        ("@b.test", "ann@a.b.test", False),
        ("@b.test", "b.test@c.test", False),
        ("ann@b.test", "joann@b.test", False),
        ("k@b.test", "\u212a@b.test", False),
    ],
)
def test_addresses(option: str, value: str, address: str, meant: bool) -> None:
    assert means(option, value, envelope(address)) is meant


@pytest.mark.parametrize(
    ("value", "address", "meant"),
    [
        ("B.test.", "ann@b.test", True),
        ("m\u00fcnchen.example", "ann@XN--mnchen-3ya.example", True),
        ("xn--mnchen-3ya.example", "ann@m\u00fcnchen.example", True),
        (".M\u00fcnchen.example", "ann@a.xn--mnchen-3ya.example", True),
        ("[192.0.2.1]", "ann@[192.0.2.1]", True),
        (".b.test", "ann@b.test", False),
        ("b.test", "ann@a.b.test", False),
    ],
)
def test_domains(value: str, address: str, meant: bool) -> None:
    assert means("--domain", value, envelope(address)) is meant


@pytest.mark.parametrize(
    ("value", "client", "meant"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("192.0.2.1", "::ffff:c000:201", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.77/24", "::ffff:192.0.2.1", True),
        ("2001:DB8::/32", "2001:db8::1", True),
        ("fe80::/10", "fe80::1%eth0", True),
        ("192.0.2.1", "192.0.2.10", False),
        ("192.0.2.0/24", "192.0.3.1", False),
        ("0.0.0.0/0", "", False),
        ("Client.Test", "192.0.2.1", True),
        ("Joe@a.test", "192.0.2.1", True),
        ("a.test", "192.0.2.1", False),
    ],
)
def test_clients(value: str, client: str, meant: bool) -> None:
    assert means("--client", value, envelope("ann@b.test", client, "client.test", "joe@A.test")) is meant


@pytest.mark.parametrize(
    "argument",
    [
        *(f"{option}={value}" for option in ("--from", "--to") for value in ("", "ann", "@", ".", "@*.test", "ann@")),
        *(f"--domain={value}" for value in ("", ".", "*.test", "@b.test", "ann@b.test", "b test", "[]")),
        *(f"--client={value}" for value in ("", " ", "192.0.2.0/33")),
        *(f"--older={value}" for value in ("", "1M", "-5", "1.5h", "1h ", "\u0661h", "1y")),
        *(f"--larger={value}" for value in ("", "-1", "1.5M", "10kb", "1T")),
        "--to=<>",
        "--reason=",
        "--reason= ",
        "--state=",
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(cli: Cli, queue: object, argument: str) -> None:
    for command in ("list", "remove"):
        result = cli("queue", command, argument)
        assert (result.status, result.out) == (2, "")
    assert len(cli("queue", "list", "--json").rows) == 3


@pytest.mark.parametrize("argument", ["--older=0", "--younger=0s", "--larger=0", "--held"])
def test_nothing_is_something_too(argument: str) -> None:
    assert filtered(read(argument))
    assert not filtered(read())
