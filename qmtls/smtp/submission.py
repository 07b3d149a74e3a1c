"""What a submission server adds to a message that its writer's program left incomplete (RFC 6409 section 8).

Only fields that are missing, and only to mail of our own users: what another server sends is never completed, because
it may be signed as it is.
"""

from __future__ import annotations

from qmtls.smtp.header import HeaderScan
from qmtls.smtp.trace import date


def missing_fields(scan: HeaderScan, *, time: float, id: str, host: str) -> bytes:
    """Date and Message-ID where there is none, each with its CRLF, to stand before the header that was scanned.

    `time` is that of arrival in Unix seconds; `id` is unique at `host`. b"" if nothing is missing, or if the header is
    so long that nobody saw its end.
    """
    if not scan.whole:
        return b""
    fields = ""
    if not scan.has_date:
        fields += f"Date: {date(int(time))}\r\n"
    if not scan.has_message_id:
        fields += f"Message-ID: <{id}@{host}>\r\n"
    return fields.encode("ascii")
