"""How the interpreter of a serving process is set up; in a child, because it imports the reactor."""

from __future__ import annotations

import subprocess
import sys

_MAKES_A_MILLION = """
import gc
from qmtls.tap import tune_interpreter

looked_at = []

def note(phase, info):
    if phase == "start" and info["generation"] < 2:
        looked_at.append(sum(len(gc.get_objects(generation)) for generation in range(info["generation"] + 1)))

tune_interpreter()
gc.callbacks.append(note)
alive = [[] for _ in range(1_000_000)]
print(max(looked_at), len(looked_at))
"""


def test_what_lives_for_a_while_never_stops_everything_for_long() -> None:
    """A thousand look-ups that hang are 200,000 objects: all of them looked at in one go would be 0.15 s."""
    done = subprocess.run([sys.executable, "-c", _MAKES_A_MILLION], capture_output=True, text=True, check=True)
    most, times = map(int, done.stdout.split())
    assert most < 80_000
    assert times < 60  # and hardly more work: each object once or twice
