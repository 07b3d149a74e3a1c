"""The Received field."""

from __future__ import annotations

import re
from dataclasses import replace
from email import message_from_bytes
from email.utils import parsedate_to_datetime

from hypothesis import given
from hypothesis import strategies as st

from qmtls.smtp.envelope import Arrival
from qmtls.smtp.trace import address_literal, protocol, received_field

ARRIVAL = Arrival(1767323045.9, "192.0.2.7", "client.example", "ESMTP")
TLS = "TLSv1.3 TLS_AES_256_GCM_SHA384 X25519MLKEM768"


def test_plain() -> None:
    assert received_field(ARRIVAL, by="mx.example", id="q1", recipients=2, recipient="b@mx.example") == (
        b"Received: from client.example ([192.0.2.7])\r\n"
        b"  by mx.example with ESMTP\r\n"
        b"  id q1; Fri, 2 Jan 2026 03:04:05 +0000\r\n"
    )


def test_tls_and_certificate() -> None:
    arrival = replace(ARRIVAL, protocol="ESMTPS", tls=TLS, client="2001:db8::7")
    assert received_field(
        arrival, by="mx.example", id="q1", recipients=1, recipient="b@mx.example", cert="alice@client.example"
    ) == (
        b"Received: from client.example ([IPv6:2001:db8::7])\r\n"
        b"  by mx.example with ESMTPS (TLSv1.3 TLS_AES_256_GCM_SHA384 X25519MLKEM768)\r\n"
        b"  (cert alice@client.example)\r\n"
        b"  id q1 for <b@mx.example>; Fri, 2 Jan 2026 03:04:05 +0000\r\n"
    )


def test_mail_of_this_host() -> None:
    field = received_field(Arrival(0.0, protocol="local"), by="mx.example", id="q1", recipients=1)
    assert field == b"Received: by mx.example with local\r\n  id q1; Thu, 1 Jan 1970 00:00:00 +0000\r\n"


def test_keywords() -> None:
    assert [protocol(False, tls, authenticated=tls, smtputf8=tls) for tls in (False, True)] == ["SMTP", "SMTP"]
    told = [
        protocol(True, tls, authenticated=authenticated, smtputf8=smtputf8)
        for smtputf8 in (False, True)
        for tls in (False, True)
        for authenticated in (False, True)
    ]
    assert told[:4] == ["ESMTP", "ESMTPA", "ESMTPS", "ESMTPSA"]
    assert told[4:] == ["UTF8SMTP", "UTF8SMTPA", "UTF8SMTPS", "UTF8SMTPSA"]


def test_a_recipient_beyond_ascii_is_not_shown_as_another_one() -> None:
    field = received_field(ARRIVAL, by="mx.example", id="q1", recipients=1, recipient="jürgen@mx.example")
    assert b"rgen" not in field and b"  id q1; Fri" in field


def test_literals() -> None:
    assert address_literal("::1") == "[IPv6:::1]"
    assert address_literal("::ffff:192.0.2.1") == "[192.0.2.1]"
    assert address_literal("fe80::1%eth0") == "[IPv6:fe80::1]"


def test_long_names_are_cut() -> None:
    long = "x" * 5000
    arrival = replace(ARRIVAL, helo=long, tls=long, protocol=long)
    field = received_field(arrival, by=long, id=long, recipients=1, recipient=long, cert=long)
    assert max(map(len, field.split(b"\r\n"))) <= 998


@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=300), st.text(max_size=50))
def test_no_name_writes_a_header_of_its_own(helo: str, cert: str, recipient: str, tls: str) -> None:
    arrival = replace(ARRIVAL, helo=helo, tls=tls)
    field = received_field(arrival, by="mx.example", id="q1", recipients=1, recipient=recipient, cert=cert)
    assert re.fullmatch(rb"Received: [ -~]+\r\n(  [ -~]+\r\n)+", field)
    assert max(map(len, field.split(b"\r\n"))) <= 998
    message = message_from_bytes(field + b"\r\n")
    assert message.keys() == ["Received"]
    assert parsedate_to_datetime(message["Received"].rpartition(";")[2]).timestamp() == 1767323045
