"""Who asks a benchmark for help is told what it measures; nothing is started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import benchmarks

FOLDER = Path(benchmarks.__file__).parent
NAMES = sorted(file.stem for file in FOLDER.glob("*.py") if "__main__" in file.read_text(encoding="utf-8"))


def test_there_are_benchmarks() -> None:
    assert "gateway" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_help_is_what_the_module_says_of_itself(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--help"],
        cwd=FOLDER.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert f"python -m benchmarks.{name}" in done.stdout
    assert (FOLDER / f"{name}.py").read_text(encoding="utf-8").startswith(f'"""{done.stdout.rstrip()}')
