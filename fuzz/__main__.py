"""All fuzz targets, one after the other, under atheris (`pip install 'qmtls[fuzz]'`).

python -m fuzz [--minutes N] [TARGET]...     N minutes for each; one line for each; status 1 if there was a finding
python -m fuzz --keep [TARGET]...            no fuzzing: what earlier runs found, made few, goes to fuzz/seeds

What a run finds worth keeping lies in .fuzz/TARGET, and a finding beside it as crash-*, timeout-* or oom-*: give that
file to `python -m fuzz.TARGET` to see it again.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from fuzz.harness import AGAIN, HERE, keep

STATE = HERE.parent / ".fuzz"
MINUTES = 12.0  # five targets in an hour
LONGEST = 4096  # octets of an input
SLOWEST = 5  # seconds for one; libFuzzer then reports it as a finding
MEMORY = 1024  # MiB
WORTH_KEEPING = 300  # octets: a longer input says nothing that a person could read
FINDINGS = ("crash-*", "timeout-*", "oom-*", "leak-*")
NO_TARGETS = {"__init__", "__main__", "harness"}

_STATISTIC = re.compile(r"^stat::(\w+):\s+(\d+)$", re.MULTILINE)
_COVERAGE = re.compile(r"cov: (\d+)")


def targets() -> list[str]:
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem not in NO_TARGETS)


def run(name: str, *options: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"fuzz.{name}", f"-timeout={SLOWEST}", f"-rss_limit_mb={MEMORY}"]
    return subprocess.run(
        [*command, *map(str, options)], cwd=HERE.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def fuzz(name: str, minutes: float) -> bool:
    """True if nothing was found. One line about it, and in .fuzz/TARGET.log all that was said."""
    corpus = STATE / name
    corpus.mkdir(parents=True, exist_ok=True)
    before = findings()
    seconds = max(1, round(minutes * 60))
    options = (f"-max_total_time={seconds}", f"-max_len={LONGEST}", f"-artifact_prefix={STATE / name}.")
    done = run(name, *options, "-print_final_stats=1", corpus)
    (STATE / f"{name}.log").write_text(done.stdout)
    said = dict(_STATISTIC.findall(done.stdout))
    coverage = (_COVERAGE.findall(done.stdout) or ["?"])[-1]
    runs, rate = said.get("number_of_executed_units", "?"), said.get("average_exec_per_sec", "?")
    new = sorted(findings() - before)
    good = done.returncode == 0 and not new
    word = "no finding" if good else f"FOUND {', '.join(map(str, new)) or f'see {STATE / name}.log'}"
    inputs = sum(1 for _ in corpus.iterdir())
    print(f"{name:12} {runs:>10} runs {rate:>6}/s  {coverage:>5} edges  {inputs:>5} inputs  {word}", flush=True)
    return good


def findings() -> set[Path]:
    return {path for kind in FINDINGS for path in STATE.glob(f"*.{kind}")}


def keep_few(name: str) -> None:
    """As few inputs as reach all that those in .fuzz reach, to fuzz/seeds."""
    corpus = STATE / name
    if not corpus.is_dir():
        print(f"{name:12} has not been run yet")
        return
    with tempfile.TemporaryDirectory() as directory:
        few, program = Path(directory, "few"), Path(directory, "program")
        few.mkdir()
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m fuzz.{name} "$@"\n')
        program.chmod(0o700)
        os.environ[AGAIN] = str(program)
        done = run(name, "-merge=1", few, corpus)
        if done.returncode:
            sys.exit(f"{name}: {done.stdout[-2000:]}")
        found = [path.read_bytes() for path in few.iterdir()]
    print(f"{name:12} {keep(name, [seed for seed in found if len(seed) <= WORTH_KEEPING])} inputs kept")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Fuzzes the parsers.")
    parser.add_argument("targets", metavar="TARGET", nargs="*", default=targets(), help=f"of {', '.join(targets())}")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for each target (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="what was found worth keeping goes to fuzz/seeds")
    args = parser.parse_args()
    unknown = set(args.targets) - set(targets())
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if find_spec("atheris") is None:
        parser.error("atheris is not installed; try: pip install 'qmtls[fuzz]'")
    if args.keep:
        for name in args.targets:
            keep_few(name)
        return 0
    results = [fuzz(name, args.minutes) for name in args.targets]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
