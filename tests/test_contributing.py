"""The example of CONTRIBUTING.md works as written: one file, one line."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUN = """
from pathlib import Path
from lightgen.operations.run import run_recipe
from lightgen.recipe import load_recipe
from lightgen.storage.store import open_or_create
store = open_or_create(str(Path("store")))
made = run_recipe(load_recipe("stripes.yaml"), store, ["generate"])
version = store.open(made["generate"])
print(version.rows, version.plan.config["generator"])
"""
RECIPE = """
name: stripes
source: {corpora: [{kind: scenes, split: train, count: 6}]}
select: {near_duplicates: null}
generate: {generator: {kind: stripes, level: 40}, size_px: 32, format: png}
"""


def blocks():
    """The code of the page: the file, and the line."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)


@pytest.fixture
def copy(tmp_path):
    for package in ("lightgen", "schemas"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "stripes.yaml").write_text(RECIPE)
    (tmp_path / "run.py").write_text(RUN)
    return tmp_path


def run(folder):
    return subprocess.run([sys.executable, "run.py"], cwd=folder, capture_output=True, text=True, timeout=120)


def test_a_new_generator_is_one_file_and_one_line(copy):
    file, line = blocks()
    (copy / "lightgen/generators/stripes.py").write_text(file)
    union = copy / "lightgen/generators/config.py"
    text, count = re.subn(r"^AnyGenerator = .*\n(?:    .*\n|\)\n)*", line, union.read_text(), flags=re.MULTILINE)
    assert count == 1
    union.write_text(text.replace(line, f"from lightgen.generators.stripes import StripesConfig\n\n{line}"))
    done = run(copy)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "6 {'kind': 'stripes', 'level': 40, 'revision': 1}"


def test_without_the_line_the_recipe_is_refused_by_name(copy):
    (copy / "lightgen/generators/stripes.py").write_text(blocks()[0])
    done = run(copy)
    assert done.returncode != 0
    assert "generate.generator" in done.stderr.replace("generate.made", "generate")
    assert "'scenes'" in done.stderr
