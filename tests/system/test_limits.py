"""Limits and passwords of a running service: counted by all workers together, whatever becomes of one of them."""

from __future__ import annotations

import base64
import os
import re
import signal
import ssl
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from qmtls.net.passwords import make_hash
from tests.system.client import Answer, SmtpClient
from tests.system.house import BIN, House
from tests.system.waiting import wait_for

PASSWORD = "sesame street"
OURS = "postmaster@mx.test"
ELSEWHERE = "ann@else.test"


def plain(user: str, password: str) -> str:
    return "AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode()


def knock(house: House, source: str = "127.0.0.1") -> tuple[SmtpClient, Answer]:
    client = SmtpClient(house.port, greeting=False, source=source)
    return client, client.answer()


def workers(house: House) -> list[int]:
    """The processes that serve, not the one that supervises them."""
    return [int(pid) for pid in Path(f"/proc/{house.pid}/task/{house.pid}/children").read_text().split()]


def test_connections_are_counted_by_all_workers_and_those_of_a_killed_one_end(house: House) -> None:
    house.control("limits", "127.0.0.1 connections=6\n")
    house.start("--workers", "2")
    with ExitStack() as stack:

        def come(times: int) -> int:
            """How many of them came in; they stay."""
            found = [knock(house) for _ in range(times)]
            for client, answer in found:
                stack.callback(client.close)
                if answer.code != 220:
                    assert str(answer) == "421 4.7.0 too many connections from your address, 6 at a time; try later"
                    assert client.read_to_end() == b""
            return sum(answer.code == 220 for _, answer in found)

        wait_for(lambda: len(workers(house)) == 2, "two workers")
        assert come(20) in (5, 6)  # the one that the start made to see the greeting may not be over yet
        stack.enter_context(knock(house, "127.0.0.2")[0])  # another client
        house.wait_for_log(r"refused client=127\.0\.0\.1 limit=control/limits:1 reply=421 4\.7\.0 too many connections")
        for pid in workers(house):
            os.kill(pid, signal.SIGKILL)
        wait_for(house._greets, "new workers")
        assert come(20) in (5, 6)
    assert len(re.findall(r"refused client=127\.0\.0\.1 ", house.log())) <= 4  # one a minute for each worker that lived


def test_the_rate_of_an_identity_holds_for_all_workers_and_survives_their_restart(
    house: House, anonymous: ssl.SSLContext
) -> None:
    house.control("users", f"joe {make_hash(PASSWORD)} rate=5/d to=@else.test\n")
    house.control("smtproutes", ":127.0.0.1:9\n")

    def send() -> Answer:
        with SmtpClient(house.port) as client:
            client.starttls(anonymous)
            client.command(plain("joe", PASSWORD), 235)
            client.command("MAIL FROM:<joe@client.test>", 250)
            answer = client.command(f"RCPT TO:<{ELSEWHERE}>")
            if answer.code == 250:
                client.command("DATA", 354)
                client.send(b"Subject: x\r\n\r\nhello\r\n.\r\n")
                client.expect(250)
            return answer

    house.start("--workers", "2")
    codes = [send().code for _ in range(4)]
    assert codes == [250] * 4
    assert house.stop() == 0
    house.start("--workers", "2")
    answers = [send() for _ in range(6)]
    assert [answer.code for answer in answers] == [250] + [450] * 5
    assert answers[-1].lines[0].startswith("4.7.1 ")
    assert re.search(r"\b1[67]\d\d\d\b", answers[-1].text)  # a fifth of a day
    assert len(house.messages()) == 5


def test_users_by_command_while_it_runs(house: House, anonymous: ssl.SSLContext) -> None:
    house.control("smtproutes", ":127.0.0.1:9\n")
    house.start()

    def user(*words: str) -> None:
        command = [str(BIN / "qmtls"), "--home", str(house.home), "user", *words]
        subprocess.run(command, input=f"{PASSWORD}\n", text=True, check=True, env=house.environment())
        house.reload()

    def log_in(name: str, password: str) -> Answer:
        with SmtpClient(house.port) as client:
            client.starttls(anonymous)
            return client.command(plain(name, password))

    with SmtpClient(house.port) as client:
        client.starttls(anonymous)
        assert "AUTH" not in client.command("EHLO client.test", 250).text
    user("add", "joe", "from=@client.test")
    with SmtpClient(house.port) as client:
        assert "AUTH" not in client.command("EHLO client.test", 250).text
        assert client.command(plain("joe", PASSWORD)).code == 538
        client.starttls(anonymous)
        assert "AUTH PLAIN LOGIN" in client.command("EHLO client.test", 250).text
        client.command(plain("Joe", PASSWORD), 235)
        assert client.mail("joe@client.test", ELSEWHERE).code == 250
        client.command("MAIL FROM:<joe@else.test>", 250)
        assert client.command(f"RCPT TO:<{ELSEWHERE}>").code == 553
        client.command("RSET", 250)
        user("remove", "joe")
        client.command("MAIL FROM:<joe@client.test>")
        assert client.command(f"RCPT TO:<{ELSEWHERE}>").code // 100 == 5
    user("add", "ann")
    assert [log_in(*words).code for words in (("joe", PASSWORD), ("ann", "other words"), ("ann", PASSWORD))] == [
        *(535, 535, 235),
    ]
    assert PASSWORD not in house.log() and "argon2" not in house.log()


def test_who_guesses_is_put_off_and_who_knows_is_not(house: House, anonymous: ssl.SSLContext) -> None:
    house.control("users", f"joe {make_hash(PASSWORD)}\n")
    house.control("limits", "127.0.0.0/8 logins=3/d\n")
    house.start()
    for _ in range(5):
        with SmtpClient(house.port) as client:
            client.starttls(anonymous)
            client.command(plain("joe", PASSWORD), 235)
    with SmtpClient(house.port) as client:
        client.starttls(anonymous)
        for password in ("one", "two", "three"):
            assert client.command(plain("joe", password)).code == 535
        answer = client.command(plain("joe", PASSWORD), 454)
        assert answer.text.startswith("4.7.0 too many failed logins from your address, 3/d at most; try again in ")
    with SmtpClient(house.port, source="127.0.0.2") as client:
        client.starttls(anonymous)
        client.command(plain("joe", PASSWORD), 235)


def cut(path: Path) -> None:
    os.truncate(path, 10)


def overwrite(path: Path) -> None:
    path.write_bytes(b"\xff" * 10_000)


@pytest.mark.parametrize("harm", [Path.unlink, cut, overwrite])
def test_whatever_happens_to_the_file_mail_goes_on(house: House, harm: Callable[[Path], None]) -> None:
    house.control("limits", "127.0.0.0/8 connections=50 messages=1000/s commands=10000/s\n")
    house.start("--workers", "2")
    wait_for(lambda: house.log().count("worker started") == 2, "both workers")
    with SmtpClient(house.port) as client:
        client.command("EHLO client.test", 250)
        client.mail("joe@client.test", OURS)
        harm(house.home / "state/buckets")
        for _ in range(20):
            with SmtpClient(house.port) as other:
                other.command("EHLO client.test", 250)
                assert other.mail("joe@client.test", OURS).code == 250
        assert client.mail("joe@client.test", OURS).code == 250
    assert house.stop() == 0
    assert house.log().count("worker started") == 2
