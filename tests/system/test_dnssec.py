"""DANE's look-ups against real name servers: a zone signed and served by nsd, checked by unbound."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.net.lookups import look_up
from tests.system.dnssec import PLAIN, SIGNED, Names

DIGEST = "cd" * 32
LONG = "30820578" + "ef" * 1400  # as long as a whole certificate: the answer needs TCP

ZONE = f"""\
@ IN MX 10 mx
@ IN MX 20 mx.{PLAIN}.
mx IN A 127.0.0.1
_25._tcp.mx IN TLSA 3 1 1 {DIGEST}
_25._tcp.mx IN TLSA 0 0 1 {DIGEST}
big IN A 127.0.0.1
_25._tcp.big IN TLSA 2 0 0 {LONG}
_25._tcp.big IN TLSA 3 1 1 {DIGEST}
bare IN A 127.0.0.1
inner IN CNAME mx
outer IN CNAME mx.{PLAIN}.
_25._tcp.outer IN TLSA 3 1 1 {DIGEST}
_25._tcp.shared IN CNAME keys
keys IN TLSA 2 1 1 {DIGEST}
shared IN A 127.0.0.1
broken IN A 127.0.0.1
_25._tcp.broken IN TLSA 3 1 1 {DIGEST}
_mta-sts IN TXT "v=STSv1; " "id=1"
"""
PLAIN_ZONE = f"""\
@ IN MX 10 mx.{SIGNED}.
mx IN A 127.0.0.1
_25._tcp.mx IN TLSA 3 1 1 {DIGEST}
alias IN CNAME mx.{SIGNED}.
"""


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Names]:
    directory: Path = tmp_path_factory.mktemp("names")
    with Names(directory, ZONE, PLAIN_ZONE, f"broken.{SIGNED}.") as running:
        yield running


QUESTIONS: list[tuple[str, ...]] = [
    ("exchangers", SIGNED),
    ("exchangers", PLAIN),
    *(("tlsas", f"{name}.{SIGNED}") for name in ("mx", "big", "bare", "inner", "outer", "shared", "broken", "nowhere")),
    *(("tlsas", f"{name}.{PLAIN}") for name in ("mx", "alias")),
    ("txt", f"_mta-sts.{SIGNED}"),
    ("host", f"broken.{SIGNED}"),
]


@pytest.fixture(scope="module")
def found(names: Names) -> dict[tuple[str, ...], Any]:
    return dict(zip(QUESTIONS, look_up([names.server], *QUESTIONS), strict=True))


@pytest.fixture(scope="module")
def careless(names: Names) -> dict[tuple[str, ...], Any]:
    """The same from a resolver that checks nothing."""
    return dict(zip(QUESTIONS, look_up([names.careless], *QUESTIONS), strict=True))


Found = dict[tuple[str, ...], Any]


def test_mail_exchangers(found: Found) -> None:
    signed = found["exchangers", SIGNED]
    assert signed["secure"] is True and len(signed["records"]) == 2
    assert found["exchangers", PLAIN]["secure"] is False


@pytest.mark.parametrize(
    ("host", "base", "demand"),
    [
        (f"mx.{SIGNED}", f"mx.{SIGNED}", "match"),
        (f"big.{SIGNED}", f"big.{SIGNED}", "match"),
        (f"bare.{SIGNED}", f"bare.{SIGNED}", "nothing"),
        (f"nowhere.{SIGNED}", f"nowhere.{SIGNED}", "nothing"),
        (f"inner.{SIGNED}", f"mx.{SIGNED}", "match"),
        (f"outer.{SIGNED}", f"outer.{SIGNED}", "match"),
        (f"shared.{SIGNED}", f"shared.{SIGNED}", "match"),
        (f"mx.{PLAIN}", f"mx.{PLAIN}", "nothing"),
        (f"alias.{PLAIN}", f"alias.{PLAIN}", "nothing"),
    ],
)
def test_tlsa_records(found: Found, host: str, base: str, demand: str) -> None:
    tlsas = found["tlsas", host]
    assert (tlsas["base"], tlsas["demand"]) == (base, demand)


def test_records_that_do_not_count_are_told(found: Found) -> None:
    assert len(found["tlsas", f"mx.{SIGNED}"]["unusable"]) == 1


def test_an_answer_that_is_too_long_for_a_datagram_is_whole(found: Found) -> None:
    assert len(found["tlsas", f"big.{SIGNED}"]["usable"]) == 2


def test_a_bad_signature_is_trouble_and_never_an_answer(found: Found) -> None:
    for question in (("host", f"broken.{SIGNED}"), ("tlsas", f"broken.{SIGNED}")):
        what, sentence, servfail = found[question]
        assert what == "DnsTrouble" and servfail is True
        assert "SERVFAIL" in sentence


def test_text_records(found: Found) -> None:
    assert [bytes.fromhex(text) for text in found["txt", f"_mta-sts.{SIGNED}"]] == [b"v=STSv1; id=1"]


def test_a_resolver_that_checks_nothing_secures_nothing(careless: Found) -> None:
    assert careless["exchangers", SIGNED]["secure"] is False
    assert {careless["tlsas", f"{name}.{SIGNED}"]["demand"] for name in ("mx", "big", "inner", "outer")} == {"nothing"}


def test_the_check_of_the_resolver(names: Names) -> None:
    question = ("check", f"mx.{SIGNED}", f"broken.{SIGNED}")
    ((state, sentence),) = look_up([names.server], question)
    assert (state, sentence) == ("works", f"DNSSEC is checked: mx.{SIGNED} is secure, broken.{SIGNED} is refused")
    ((state, sentence),) = look_up([names.careless], question)
    assert state == "off" and f"does not say that mx.{SIGNED}" in sentence
    ((state, _),) = look_up([names.server], ("check", f"mx.{PLAIN}", f"broken.{SIGNED}"))
    assert state == "off"
    ((state, sentence),) = look_up([names.server], ("check", f"mx.{SIGNED}", f"bare.{SIGNED}"))
    assert state == "off" and "answers for bare" in sentence
