from __future__ import annotations

from pathlib import Path

import pytest

from qmtls.control.lists import ControlFiles
from qmtls.control.pins import HostFiles, read_host_files
from qmtls.tls.pin import key_digest
from tests.control.directory import reader
from tests.tls.pki import certificate, host, pem

LEAF, OTHER, CA = host("mx.example.org"), host("mx.example.org", key_name="other"), certificate("ca", ca=True)


def read(control: Path, files: dict[str, str | bytes]) -> tuple[HostFiles, ControlFiles]:
    made = reader(control, files)
    return read_host_files(made), made


def test_pins_by_canonical_name_from_both_places(tmp_path: Path) -> None:
    found, files = read(
        tmp_path,
        {
            "MX.Example.Org.pem": pem(LEAF),
            "tlshosts/bücher.example.pem": pem(CA),
            "192.0.2.1.pem": pem(LEAF),
            "2001:DB8:0::1.pem": pem(LEAF),
            "tlshosts/dotted.example..pem": pem(LEAF),
        },
    )
    assert set(found.pins) == {
        *("mx.example.org", "xn--bcher-kva.example", "192.0.2.1", "2001:db8::1", "dotted.example"),
    }
    pin = found.pins["mx.example.org"]
    assert pin.pins.keys == {key_digest(LEAF)} and str(pin.origin) == "control/MX.Example.Org.pem"
    assert found.pins["xn--bcher-kva.example"].pins.anchors == (CA,)
    assert not files.problems and not files.warnings


def test_our_own_and_historic_files_are_no_pins(tmp_path: Path) -> None:
    names = ("servercert", "clientcert", "clientca", "clientcrl", "cert", "rsa512", "rsa2048", "dh1024", "dh2048")
    found, files = read(tmp_path, {f"{name}.pem": "x" for name in names})
    assert found.pins == {} and not files.warnings


@pytest.mark.parametrize("content", [b"", b"garbage", pem(LEAF)[:100], pem(CA) + pem(LEAF)[:100]])
def test_a_bad_pin_file_stays_as_a_problem_of_its_name(tmp_path: Path, content: bytes) -> None:
    found, files = read(tmp_path, {"mx.example.org.pem": content})
    assert found.pins["mx.example.org"].problem
    assert not files.problems


def test_a_directory_or_a_broken_link_is_a_bad_pin_file(tmp_path: Path) -> None:
    (tmp_path / "a.example.pem").mkdir()
    (tmp_path / "b.example.pem").symlink_to("nowhere")
    found, _ = read(tmp_path, {})
    assert found.pins["a.example"].problem == "it is a directory"
    assert found.pins["b.example"].problem == "it is a link to a file that does not exist"


def test_two_files_for_one_name_must_agree(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"a.example.pem": pem(LEAF), "tlshosts/a.example.pem": pem(LEAF, CA)}
    assert read(tmp_path, files)[0].pins["a.example"].problem == ""
    problem = read(tmp_path, {"A.example.pem": pem(OTHER)})[0].pins["a.example"].problem
    assert "pin the same name differently" in problem


def test_a_bad_file_is_not_hidden_by_a_good_one_for_the_name(tmp_path: Path) -> None:
    for bad, good in (("a.example.pem", "tlshosts/a.example.pem"), ("tlshosts/a.example.pem", "a.example.pem")):
        assert read(tmp_path, {bad: b"", good: pem(LEAF)})[0].pins["a.example"].problem


def test_flags(tmp_path: Path) -> None:
    found, files = read(tmp_path, {"notlshosts/MX.Plain.Example": "", "tlshosts/exhaustivelist": ""})
    assert {name: str(origin) for name, origin in found.no_tls.items()} == {
        "mx.plain.example": "control/notlshosts/MX.Plain.Example"
    }
    assert str(found.exhaustive) == "control/tlshosts/exhaustivelist"
    assert not files.warnings


def test_what_looks_like_a_rule_and_is_none_is_told(tmp_path: Path) -> None:
    names = (".example.org.pem", "a b.pem", "tlshosts/mx.example.org", "notlshosts/a..c")
    found, files = read(tmp_path, dict.fromkeys(names, pem(LEAF)))
    assert found.pins == {} and found.no_tls == {}
    assert sorted(str(warning).split(":")[0] for warning in files.warnings) == sorted(f"control/{n}" for n in names)


def test_hidden_leftovers_of_tools_are_passed_over(tmp_path: Path) -> None:
    names = (".#mx.pem", "tlshosts/.mx.example.pem.swp", "tlshosts/mx.example.pem~", ".gitignore")
    found, files = read(tmp_path, dict.fromkeys(names, "x"))
    assert found.pins == {} and not files.warnings


def test_a_pin_wins_over_notlshosts_and_that_is_told(tmp_path: Path) -> None:
    _, files = read(tmp_path, {"tlshosts/a.example.pem": pem(LEAF), "notlshosts/a.example": ""})
    (warning,) = files.warnings
    assert str(warning.origin) == "control/notlshosts/a.example"
    assert warning.what == "control/tlshosts/a.example.pem demands TLS for the same name, and wins"


def test_an_unreadable_directory_is_a_problem(tmp_path: Path) -> None:
    _, files = read(tmp_path, {"tlshosts": "a file"})
    assert len(files.problems) == 1


def test_odd_file_names_cannot_break_a_log_line(tmp_path: Path) -> None:
    (tmp_path / "a\nb.pem").write_bytes(b"")
    (tmp_path / "\udcff.pem").write_bytes(b"")
    _, files = read(tmp_path, {})
    assert len(files.warnings) == 2
    assert all(str(warning).isprintable() for warning in files.warnings)
