from __future__ import annotations

import subprocess
import sys

from tests.support.paths import ROOT

EXAMPLE = ROOT / "examples" / "compare_models.py"


def test_the_example_compares_two_models_by_the_variants_of_a_flag() -> None:
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    _, *lines = [line.split() for line in done.stdout.splitlines()]
    control, small = lines
    assert (control[0], control[1].partition("-2")[0]) == ("control", "gpt-5.1")
    assert (small[0], small[1].partition("-2")[0]) == ("small", "gpt-5-mini")
    assert int(control[2]) + int(small[2]) == 40
    assert min(int(control[3]), int(small[3])) > 5, "both halves of the users"
    assert float(small[4]) < float(control[4]), "the small model is the cheaper one"
