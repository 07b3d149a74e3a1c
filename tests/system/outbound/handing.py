"""Mail handed to a house from a network that may relay, and what became of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.system.client import SmtpClient
from tests.system.house import House
from tests.system.waiting import wait_for


def open_to_all(house: House, *routes: str) -> House:
    """Lets loopback relay; `routes` are lines of smtproutes."""
    house.control("relaynetworks", "127.0.0.0/8\n")
    house.control("smtproutes", "".join(f"{route}\n" for route in routes))
    return house


def hand_in(
    house: House,
    *recipients: str,
    sender: str = "ann@a.test",
    contents: Iterable[bytes] = (b"Subject: x\r\n\r\nhello\r\n",),
) -> list[str]:
    """Each of `contents` as a message to all recipients; their queue ids."""
    ids = []
    with SmtpClient(house.port) as client:
        client.command("EHLO client.test", 250)
        for content in contents:
            client.command(f"MAIL FROM:<{sender}> BODY=8BITMIME", 250)
            for recipient in recipients:
                client.command(f"RCPT TO:<{recipient}>", 250)
            client.command("DATA", 354)
            client.send((b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n")
            ids.append(client.expect(250).text.split()[-1])
    return ids


def wait_for_reasons(house: House, count: int = 1) -> dict[str, dict[str, Any]]:
    """What waits after an attempt, by its first recipient; at least `count` messages."""

    def tried() -> dict[str, dict[str, Any]]:
        rows = {row["to"][0]: row for row in house.queue() if row["attempts"]}
        return rows if len(rows) >= count else {}

    return wait_for(tried, f"{count} messages with a reason")
