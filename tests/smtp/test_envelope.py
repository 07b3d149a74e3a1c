"""Two forward-paths that are one recipient."""

from __future__ import annotations

import pytest

from qmtls.smtp.address import Address
from qmtls.smtp.envelope import Recipient, joined


def recipient(notify: str, orcpt: str) -> Recipient:
    parameters = {"NOTIFY": notify, "ORCPT": orcpt}
    return Recipient(Address("joe", "a.example"), tuple((k, v) for k, v in parameters.items() if v))


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        ("", "", ""),
        ("NEVER", "NEVER", "NEVER"),
        ("NEVER", "never", "NEVER"),
        ("", "NEVER", ""),
        ("NEVER", "", ""),
        ("SUCCESS", "NEVER", "SUCCESS"),
        ("NEVER", "success,delay", "SUCCESS,DELAY"),
        ("FAILURE", "SUCCESS", "SUCCESS,FAILURE"),
        ("", "SUCCESS", "SUCCESS,FAILURE,DELAY"),
    ],
)
def test_either_one_s_wish_for_a_report_holds(first: str, second: str, both: str) -> None:
    assert joined(recipient(first, "rfc822;one"), recipient(second, "rfc822;two")) == recipient(both, "rfc822;one")
