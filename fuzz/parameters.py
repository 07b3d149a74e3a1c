# Invariant: parameters are values or a CommandError with status 5.5.4; whatever is taken of a DSN decodes to visible
# characters, holds nothing that could end a word or a line, and is taken again.
"""Fuzz target: ESMTP parameters and their xtext (qmtls/smtp/parameters.py, qmtls/smtp/xtext.py)."""

from __future__ import annotations

from fuzz.harness import main
from qmtls.smtp import parameters, xtext
from qmtls.smtp.errors import CommandError

SEEDS = (
    b"SIZE=100 BODY=8BITMIME SMTPUTF8 REQUIRETLS RET=FULL ENVID=QQ+2B314 AUTH=a+40b",
    b"NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;a+2Btag@b.example",
    b"ORCPT=utf-8;j\\x{FC}r\\x{2B}\\x{1F600}@b NOTIFY=NEVER",
    "ORCPT=utf-8;jürgen@bücher.example".encode(),
)
MAIL = parameters.of_mail(esmtp=True, tls=True, auth=True)


def target(data: bytes) -> None:
    for known, smtputf8 in (
        (MAIL, False),
        (parameters.of_rcpt(esmtp=True), False),
        (parameters.of_rcpt(esmtp=True, smtputf8=True), True),
    ):
        try:
            values = parameters.parse(data, known, smtputf8=smtputf8)
        except CommandError as error:
            assert error.reply.status == "5.5.4" and error.reply.code in (501, 555)
            assert error.reply.text.isascii() and error.reply.text.isprintable()
            continue
        words = [f"{key}={value}" if value else key for key, value in values.items()]
        assert all(word.isprintable() and not {*word} & {*" \t\r\n"} for word in words)
        assert parameters.parse(" ".join(words).encode(), known, smtputf8=smtputf8) == values
        if "ENVID" in values:
            assert xtext.encode_xtext(xtext.decode_xtext(values["ENVID"])).isascii()
        if "ORCPT" in values:
            assert smtputf8 or values["ORCPT"].isascii()
            assert xtext.decode_address(values["ORCPT"], smtputf8=smtputf8)[1].isprintable()


if __name__ == "__main__":
    main(target, SEEDS)
