"""A control directory for tests, made from a dictionary of files."""

from __future__ import annotations

from pathlib import Path

from qmtls.control.compile import compile_control
from qmtls.control.lists import ControlFiles
from qmtls.control.settings import ControlError, Problem, Settings


def write(control: Path, files: dict[str, str | bytes]) -> Path:
    """`me` is there unless it is given; private keys are written for nobody else."""
    for name, content in {"me": "mail.example.org\n", **files}.items():
        path = control / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(0o640)
    return control


def compiled(control: Path, files: dict[str, str | bytes]) -> Settings:
    return compile_control(write(control, files))


def problems(control: Path, files: dict[str, str | bytes]) -> list[str]:
    """Each problem in words; [] if the directory compiles."""
    try:
        compiled(control, files)
    except ControlError as error:
        return [_checked(problem) for problem in error.problems]
    return []


def warnings(control: Path, files: dict[str, str | bytes]) -> list[str]:
    return [_checked(warning) for warning in compiled(control, files).warnings]


def reader(control: Path, files: dict[str, str | bytes]) -> ControlFiles:
    return ControlFiles(write(control, files))


def _checked(problem: Problem) -> str:
    """Each has a file, what is wrong, and a mend."""
    assert problem.origin.file and problem.what and problem.mend
    return str(problem)
