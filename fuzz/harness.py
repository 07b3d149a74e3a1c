"""Runs one fuzz target: under atheris if it is installed, else over the seeds and simple changes of them.

python -m fuzz.lines [atheris' options] [corpus]     with atheris
python -m fuzz.lines [FILE]...                       without: the files, or the target's own seeds

Seeds are those that the target's module names, and those that earlier runs found worth keeping: `fuzz/seeds/TARGET`,
one literal of Python's a line. `python -m fuzz` runs all targets, see there.
"""

from __future__ import annotations

import ast
import os
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

ROUNDS = 2000  # changes tried for each seed, without atheris
HERE = Path(__file__).resolve().parent
SEEDS = HERE / "seeds"
WORDS = HERE / "words.dict"  # what the changes should be made of
AGAIN = "FUZZ_AGAIN"  # in the environment: the program by which libFuzzer starts itself again, to merge

Target = Callable[[bytes], None]


def main(target: Target, seeds: Sequence[bytes]) -> None:
    name = Path(sys.argv[0]).stem
    if find_spec("atheris") is None:
        files = [Path(name).read_bytes() for name in sys.argv[1:]]
        print(f"no atheris: {run(target, files or [*seeds, *kept(name)])} inputs, no finding")
        return
    corpus = next((Path(word) for word in sys.argv[1:] if not word.startswith("-")), None)
    if corpus is not None and corpus.is_dir() and "-merge=1" not in sys.argv:
        write_seeds(corpus, [*seeds, *kept(name)])
    atheris = import_module("atheris")
    atheris.instrument_all()
    atheris.Setup([os.environ.get(AGAIN, sys.argv[0]), *sys.argv[1:], f"-dict={WORDS}"], target)
    atheris.Fuzz()


def kept(name: str) -> list[bytes]:
    """The seeds that earlier runs left."""
    path = SEEDS / name
    lines = path.read_text("ascii").splitlines() if path.exists() else []
    return [ast.literal_eval(line) for line in lines]


def keep(name: str, seeds: Iterable[bytes]) -> int:
    """Writes them in place of those of before; shortest first, so that a difference can be read. How many."""
    lines = [repr(seed) for seed in sorted(set(seeds), key=lambda seed: (len(seed), seed))]
    SEEDS.mkdir(exist_ok=True)
    (SEEDS / name).write_text("".join(f"{line}\n" for line in lines), "ascii")
    return len(lines)


def write_seeds(corpus: Path, seeds: Iterable[bytes]) -> None:
    for seed in seeds:
        (corpus / sha256(seed).hexdigest()[:40]).write_bytes(seed)


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
    cuts = [*range(0, len(stream), step), len(stream)]
    return stream, [stream[begin:end] for begin, end in pairwise(cuts)] or [b""]


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
