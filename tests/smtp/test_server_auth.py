"""AUTH in a session: when it may come, how long its lines are, who the client is afterwards."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qmtls.smtp.auth import MAX_RESPONSE
from qmtls.smtp.events import PAUSED, Authenticate, Closed
from qmtls.smtp.reply import reply
from qmtls.smtp.server import ServerSession
from tests.smtp.dialogue import (
    CONFIG,
    CUTS,
    ENVELOPE,
    Cut,
    under_tls,
)


def test_who_it_is_after_auth() -> None:
    talk = under_tls("PLAIN")
    assert (talk.session.authenticated, talk.session.user) == ("", "")
    talk.answers["Authenticate"] = reply(535, "5.7.8", "no")
    assert talk.codes(b"AUTH PLAIN AGFsAHB3\r\n") == [535]
    assert (talk.session.authenticated, talk.session.user) == ("", "")
    talk.answers["Authenticate"] = reply(235, "2.7.0", "yes")
    assert talk.codes(b"AUTH PLAIN AGFsAHB3\r\n", b"EHLO again\r\n", ENVELOPE, b"RSET\r\n")[:2] == [235, 250]
    assert (talk.session.authenticated, talk.session.user) == ("PLAIN", "al")


def test_without_mechanisms_there_is_no_auth() -> None:
    talk = under_tls()
    assert not any("AUTH" in line for line in talk.send(b"EHLO x\r\n"))
    assert talk.codes(b"AUTH PLAIN AGFsAHB3\r\n") == [502]


@pytest.mark.parametrize("cut", CUTS)
def test_a_long_response_is_taken_and_a_longer_one_is_no_command(cut: Cut) -> None:
    talk = under_tls("PLAIN")
    full = b"A" * MAX_RESPONSE
    assert talk.codes(*cut(b"AUTH PLAIN\r\n" + full + b"\r\n")) == [334, 501]
    assert talk.codes(*cut(b"AUTH PLAIN\r\n" + full + b"A\r\nNOOP\r\n")) == [334, 500, 250]
    assert talk.codes(*cut(b"AUTH PLAIN " + full + b"\r\nNOOP\r\n")) == [500, 250]
    assert talk.codes(*cut(b"NOOP " + full + b"\r\n")) == [500]


def test_the_question_waits_like_any_other() -> None:
    session = ServerSession(replace(CONFIG, tls_first=True))
    session.tls_established(("PLAIN",))
    session.receive_data(b"EHLO x\r\nAUTH PLAIN AGFsAHB3\r\nQUIT\r\n")
    assert session.next_event() == Authenticate("PLAIN", "", "al", "pw")
    assert session.next_event() is PAUSED
    session.answer(reply(421, "4.3.2", "shutting down"))
    assert isinstance(session.next_event(), Closed)
