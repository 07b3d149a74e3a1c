from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from qmtls.control.compile import compile_control
from qmtls.control.describe import describe
from qmtls.control.findings import FindingLevel
from qmtls.control.settings import ControlError
from qmtls.tls.pin import key_pin_text
from tests.control.directory import compiled, write
from tests.tls.pki import NOW, YEAR, certificate, crl, host, key_pem, pem

DAY = timedelta(days=1)
LEAF, BACKUP, CA = host("mx.example.org"), host("mx.example.org", key_name="backup"), certificate("ca", ca=True)

BESIDE = " certificate beside it not used; neither name nor date is asked"
WAITS = "mail for a waits until it is mended or removed"


def findings(control: Path, files: dict[str, str | bytes]) -> list[str]:
    """All but the note about STARTTLS."""
    found = [str(finding) for finding in describe(compiled(control, files), NOW.timestamp())]
    return [text for text in found if "STARTTLS is not offered" not in text]


def test_an_error_is_each_of_its_problems_with_its_mend(tmp_path: Path) -> None:
    write(tmp_path, {"me": "", "databytes": "x"})
    with pytest.raises(ControlError) as caught:
        compile_control(tmp_path)
    assert [(finding.level, str(finding)) for finding in describe(caught.value, 0.0)] == [
        (FindingLevel.ERROR, f"error: {problem}") for problem in caught.value.problems
    ]


def test_a_bare_directory_says_that_starttls_is_not_offered(tmp_path: Path) -> None:
    (finding,) = describe(compiled(tmp_path, {}), NOW.timestamp())
    assert finding.level is FindingLevel.NOTE and "STARTTLS is not offered" in finding.text


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (pem(LEAF), f"note: control/a.pem: pins the key of a, {key_pin_text(LEAF)}; neither name nor date is asked"),
        (
            pem(LEAF, BACKUP, CA),
            f"note: control/a.pem: pins the key of a, {key_pin_text(LEAF)}, and 1 backup key; 1 CA{BESIDE}",
        ),
        (
            pem(CA),
            (
                "note: control/a.pem: trusts a CA for a (CN=ca), until 2027-06-01, or one of these very keys; "
                "if only the host's own key is meant, put its own certificate here instead"
            ),
        ),
        (
            b"garbage",
            f"error: control/a.pem: this pin file cannot be used: it holds no certificate; {WAITS}",
        ),
    ],
)
def test_what_each_pin_file_is(tmp_path: Path, content: bytes, text: str) -> None:
    assert findings(tmp_path, {"a.pem": content}) == [text]


def test_an_expired_leaf_pin_is_a_warning_and_an_expired_anchor_an_error(tmp_path: Path) -> None:
    old_leaf = certificate("old", until=NOW - DAY)
    old_ca = certificate("old ca", ca=True, until=NOW - DAY)
    found = findings(tmp_path, {"a.pem": pem(old_leaf), "b.pem": pem(old_ca)})
    assert [text.partition("; ")[0] for text in found if not text.startswith("note")] == [
        "error: control/b.pem: the certificate CN=old ca expired 2026-05-31",
        (
            "warning: control/a.pem: the certificate of the pinned key ended 2026-05-31: the pin holds, but it will be "
            "renewed"
        ),
    ]


@pytest.mark.parametrize(
    ("left", "level", "words"),
    [
        (-DAY, "error", "expired 2026-05-31"),
        (0 * DAY, "error", "expired 2026-06-01"),
        (13 * DAY, "warning", "expires 2026-06-14"),
        (15 * DAY, "note", "until 2026-06-16"),
        (3 * YEAR, "warning", "is valid only from 2027-06-01"),
    ],
)
def test_our_own_certificates_are_watched(tmp_path: Path, left: timedelta, level: str, words: str) -> None:
    ours = certificate("ours", until=NOW + left, key_name="host")
    found = findings(tmp_path, {"servercert.pem": key_pem("host") + pem(ours)})
    assert any(text.startswith(f"{level}: control/servercert.pem: ") and words in text for text in found), found
    assert sum(not text.startswith("note") for text in found) == (level != "note")


@pytest.mark.parametrize(("left", "level"), [(-DAY, "error"), (13 * DAY, "warning"), (15 * DAY, "")])
def test_revocation_lists_are_watched(tmp_path: Path, left: timedelta, level: str) -> None:
    found = findings(tmp_path, {"clientca.pem": pem(CA), "clientcrl.pem": pem(crl("ca", NOW + left))})
    assert [text.split(": ")[0] for text in found] == ([level] if level else [])


def test_a_ca_without_a_list_is_an_error_once_there_are_lists(tmp_path: Path) -> None:
    other = certificate("other", ca=True)
    assert findings(tmp_path, {"clientca.pem": pem(CA, other)}) == []
    (found,) = findings(tmp_path, {"clientcrl.pem": pem(crl("ca", NOW + YEAR))})
    assert found.startswith("error: control/clientcrl.pem: has no revocation list of CN=other")


def test_a_list_of_another_ca_with_that_name_is_not_its_own(tmp_path: Path) -> None:
    twin = certificate("ca", ca=True, key_name="twin")
    found = findings(tmp_path, {"clientca.pem": pem(CA, twin), "clientcrl.pem": pem(crl("ca", NOW + YEAR))})
    assert [text.partition(": its")[0] for text in found] == [
        "error: control/clientcrl.pem: has no revocation list of CN=ca"
    ]


@pytest.mark.parametrize(
    ("ends", "level"),
    [
        ((-DAY, YEAR), ""),
        ((YEAR, -DAY), ""),
        ((-DAY, DAY), "warning"),
        ((-DAY, -2 * DAY), "error"),
        ((2 * YEAR,), "error"),
    ],
)
def test_one_current_list_of_a_ca_is_enough(tmp_path: Path, ends: tuple[timedelta, ...], level: str) -> None:
    """A list begins a year before its end: the last one begins in a year."""
    lists = pem(*(crl("ca", NOW + end) for end in ends))
    found = findings(tmp_path, {"clientca.pem": pem(CA), "clientcrl.pem": lists})
    assert [text.split(": ")[0] for text in found] == ([level] if level else [])


def test_lists_of_cas_between_are_watched_too(tmp_path: Path) -> None:
    lists = pem(crl("ca", NOW + YEAR), crl("between", NOW + 13 * DAY))
    (found,) = findings(tmp_path, {"clientca.pem": pem(CA), "clientcrl.pem": lists})
    assert found.startswith(
        "warning: control/clientcrl.pem: the revocation list of CN=between ends 2026-06-14; renew it"
    )


def test_certificates_for_names_are_watched(tmp_path: Path) -> None:
    ours, good = (
        certificate("ours", sans=[x509.DNSName("a.test")], until=NOW + n * DAY, key_name="host") for n in (1, 99)
    )
    files: dict[str, str | bytes] = {
        f"{name}.pem": key_pem("host") + pem(one) for name, one in (("servercert", good), ("servercerts/a.test", ours))
    }
    found = [text.split(": ")[:2] for text in findings(tmp_path, files)]
    assert ["warning", "control/servercerts/a.test.pem"] in found
    assert ["note", "control/servercerts/a.test.pem"] in found


@pytest.mark.parametrize(
    ("until", "words"),
    [
        ("2026-05-31", "until=2026-05-31 has passed, owner ops, reason: new host; the line stays in force"),
        ("2026-06-01", "until=2026-06-01 is near"),
        ("2026-06-15", "until=2026-06-15 is near"),
        ("2026-06-16", ""),
    ],
)
def test_dates_of_policy_lines_are_watched(tmp_path: Path, until: str, words: str) -> None:
    line = f'a.example encrypt until={until} owner=ops reason="new host"\n'
    found = findings(tmp_path, {"tlspolicy": line})
    assert len(found) == bool(words)
    assert all(words in text and text.startswith("warning: control/tlspolicy:1: ") for text in found)


def test_errors_come_first(tmp_path: Path) -> None:
    found = findings(tmp_path, {"a.pem": pem(LEAF), "b.pem": "", "tlshosts/odd": "x"})
    assert [text.split(":")[0] for text in found] == ["error", "warning", "note"]
