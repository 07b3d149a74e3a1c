"""The fuzz targets hold for their seeds and for some changes of them; `python -m fuzz` does the rest."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from fuzz import harness
from fuzz.__main__ import targets
from fuzz.harness import SEEDS, keep, kept, pieces, run

CHANGES = 10  # of each seed


@pytest.mark.parametrize("name", targets())
def test_target(name: str) -> None:
    module = import_module(f"fuzz.{name}")
    assert run(module.target, [b"", *module.SEEDS, *kept(name)], CHANGES) > CHANGES


def test_seeds_belong_to_targets() -> None:
    assert {path.name for path in SEEDS.iterdir()} <= set(targets())


def test_what_is_kept_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "SEEDS", tmp_path / "seeds")
    assert kept("x") == []
    seeds = [b"long\r\n\0\xff", b"", b"'\"", b"\n"]
    assert keep("x", [*seeds, b""]) == 4
    assert sorted(kept("x")) == sorted(seeds)


def test_pieces_are_the_stream() -> None:
    for first in range(20):
        data = bytes([first]) + b"x" * 40
        stream, parts = pieces(data)
        assert stream == b"".join(parts) == data[1:]
    assert pieces(b"") == (b"", [b""])
