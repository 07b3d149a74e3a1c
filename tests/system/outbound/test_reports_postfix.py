"""Our reports as Postfix reads them: its MIME parser, as strict as it can be made, passes them on unchanged.

Postfix takes no report apart for itself. But `cleanup` parses each message: with the strict settings it refuses what
breaks the rules, and its header checks see which parts it found, and which header fields it takes for whose.
"""

from __future__ import annotations

import email
import email.policy
import re
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.system.client import SmtpClient
from tests.system.house import House
from tests.system.mx import EXTENSIONS, Do, FakeMx
from tests.system.outbound.handing import open_to_all
from tests.system.outbound.peers import Peer, running
from tests.system.outbound.sink import Sink
from tests.system.pki import Authority

STRICT = """\
smtputf8_enable = yes
strict_mime_encoding_domain = yes
strict_7bit_headers = yes
strict_8bitmime_body = yes
header_checks = regexp:{checks}/own
mime_header_checks = regexp:{checks}/part
nested_header_checks = regexp:{checks}/nested
"""
# What is found is written into the log, and whose it is: the message's own header, a part's, or that of a message in a
# part.
CHECKS = "/^(Content-Type|Subject|X-Mark):/ WARN {whose}\n"
SEEN = re.compile(r": warning: header (.*?) from .*: (own|part|nested)$", re.MULTILINE)
PLAIN = b"Subject: original\r\nX-Mark: one\r\n\r\nhello\r\n.dot\r\n"
MIME = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
EIGHT = MIME + PLAIN.replace(b"hello", b"gr\xc3\xbc\xc3\x9fe")
UNKNOWN = b"550 5.1.1 nobody: \xff\x1b[2J said the host\r\n"


@pytest.fixture
def checks(tmp_path: Path) -> str:
    path = tmp_path / "checks"
    path.mkdir()
    for whose in ("own", "part", "nested"):
        (path / whose).write_text(CHECKS.format(whose=whose))
    return STRICT.format(checks=path)


def hand_in(house: House, parameters: str, recipient: str, content: bytes) -> None:
    with SmtpClient(house.port) as client:
        client.command("EHLO client.test", 250)
        client.command(f"MAIL FROM:<ann@peer.test> {parameters}".encode(), 250)
        client.command(f"RCPT TO:{recipient}".encode(), 250)
        client.command("DATA", 354)
        client.send(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        client.expect(250)


def parsed(message: bytes) -> EmailMessage:
    found = email.message_from_bytes(message, policy=email.policy.default)
    assert isinstance(found, EmailMessage)
    return found


def seen_by(peer: Peer) -> list[tuple[str, str]]:
    """What Postfix's tables saw: ("nested", "Subject: original")."""
    log = (peer.log.parent / "maillog").read_text(errors="replace")
    return [(whose, header) for header, whose in SEEN.findall(log)]


CASES = {
    "failure, whole message": ("BODY=8BITMIME", "<bob@dest.test>", PLAIN, "message/delivery-status", "message/rfc822"),
    "failure, 8-bit message": ("BODY=8BITMIME", "<bob@dest.test>", EIGHT, "message/delivery-status", "message/rfc822"),
    "failure, headers only": (
        "RET=HDRS ENVID=a+2Bb",
        "<bob@dest.test> ORCPT=rfc822;Bob+2B@dest.test",
        PLAIN,
        "message/delivery-status",
        "text/rfc822-headers",
    ),
    "delivery": (
        "ENVID=QQ314159",
        "<good@dest.test> NOTIFY=SUCCESS",
        PLAIN,
        "message/delivery-status",
        "text/rfc822-headers",
    ),
    "failure of an international address": (
        "BODY=8BITMIME SMTPUTF8",
        "<bücher@dest.test>",
        EIGHT,
        "message/global-delivery-status",
        "message/global",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_postfix_passes_a_report_on_as_it_is(
    house: House, authority: Authority, tmp_path: Path, checks: str, case: str
) -> None:
    parameters, recipient, content, status_type, returned_type = CASES[case]
    server = authority.server("peer.test", "127.0.0.1")
    answer = {} if "good" in recipient else {"RCPT": Do(UNKNOWN)}
    with (
        Sink() as sink,
        FakeMx(answer, extensions=(*EXTENSIONS, "SMTPUTF8")) as mx,
        running("postfix", server, tmp_path / "postfix", sink.port, checks) as peer,
    ):
        open_to_all(house, f"dest.test:127.0.0.1:{mx.port}", f"peer.test:127.0.0.1:{peer.port}").start()
        hand_in(house, parameters, recipient, content)
        (taken,) = sink.wait_for(1)
        house.wait_for_empty_queue()
        seen = seen_by(peer)
    assert taken.mail.startswith("<>")
    report = parsed(taken.content)
    assert not report.defects
    text, status, returned = report.iter_parts()
    kinds = [part.get_content_type() for part in (report, text, status, returned)]
    assert kinds == ["multipart/report", "text/plain", status_type, returned_type]
    for kind in kinds:
        assert any(whose == "part" and header.startswith(f"Content-Type: {kind}") for whose, header in seen), seen
    # Only a message that came back whole is one that Postfix looks into.
    assert (("nested", "Subject: original") in seen) is returned_type.startswith("message/"), seen
    assert not any("X-Mark" in header and whose != "nested" for whose, header in seen), seen
