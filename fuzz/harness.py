"""Runs one fuzz target: under atheris if it is installed, else over seeds and simple changes of them.

python -m fuzz.lines [atheris' options] [corpus]     with atheris
python -m fuzz.lines [FILE]...                       without: the files, or the target's own seeds
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

ROUNDS = 2000  # changes tried for each seed, without atheris

Target = Callable[[bytes], None]


def main(target: Target, seeds: Sequence[bytes]) -> None:
    if find_spec("atheris") is None:
        files = [Path(name).read_bytes() for name in sys.argv[1:]]
        print(f"no atheris: {run(target, files or seeds)} inputs, no finding")
        return
    atheris = import_module("atheris")
    atheris.instrument_all()
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


def run(target: Target, seeds: Iterable[bytes], rounds: int = ROUNDS) -> int:
    """Each seed, and `rounds` changes of it, always the same ones. The number of inputs."""
    chance = random.Random(5321)
    pool = list(seeds)
    done = 0
    for seed in pool:
        for data in (seed, *(_change(seed, pool, chance) for _ in range(rounds))):
            target(data)
            done += 1
    return done


def pieces(data: bytes) -> tuple[bytes, list[bytes]]:
    """The input as a stream, and the same stream cut: the first octet says into how large pieces."""
    stream = data[1:]
    step = (data[0] if data else 0) % 17 + 1
    return stream, [stream[begin:end] for begin, end in pairwise([*range(0, len(stream), step), len(stream)])]


def _change(seed: bytes, pool: list[bytes], chance: random.Random) -> bytes:
    data = bytearray(seed)
    for _ in range(chance.randint(1, 4)):
        place = chance.randint(0, len(data))
        match chance.randrange(4):
            case 0:
                data[place : place + chance.randint(1, 4)] = b""
            case 1:
                data[place:place] = chance.choice(
                    [b"\r", b"\n", b"\0", b".", b"\r\n", b'"', b"\\", b"@", b">", b"\xff"]
                )
            case 2:
                data[place : place + 1] = bytes([chance.randrange(256)])
            case 3:
                other = chance.choice(pool)
                data[place:place] = other[chance.randint(0, len(other)) :]
    return bytes(data)
