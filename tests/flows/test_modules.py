"""`python -m flows.<module>` of a module that only declares a flow says how the flow is run, and fails."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

FLOWS = Path(__file__).parents[2] / "flows"
DECLARING = sorted(path.stem for path in FLOWS.glob("*.py") if "@flow(" in path.read_text() and path.stem != "demo")


def test_the_modules_are_found():
    assert {"build_distill_set", "retrain", "work"} <= set(DECLARING)


@pytest.mark.parametrize("module", DECLARING)
def test_it_does_not_end_in_silence(module):
    done = subprocess.run([sys.executable, "-m", f"flows.{module}"], capture_output=True, text=True, cwd=FLOWS.parent)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"prefect deployment run {module.replace('_', '-')}" in done.stderr
    assert re.search(r"lightgen (run|ablate) (demo|compare)", done.stderr)
