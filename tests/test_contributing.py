"""The example of CONTRIBUTING.md works as written: one file, one line, one golden."""

import os
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
    """The code of the page: the file, the line, and the golden."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)


# What the goldens import.
COPIED = (
    "lightgen", "schemas", "tests/golden", "tests/servers", "tests/lightgen/sealed.py", "tests/lightgen/fetch/given.py",
    "tests/lightgen/storage/test_pixels.py", "tests/worked_version.py",
)  # fmt: skip


@pytest.fixture
def copy(tmp_path):
    for folder in COPIED:
        if (ROOT / folder).is_dir():
            shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (tmp_path / folder).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / folder, tmp_path / folder)
    (tmp_path / "stripes.yaml").write_text(RECIPE)
    (tmp_path / "run.py").write_text(RUN)
    return tmp_path


def run(folder, *command):
    words = [sys.executable, *(command or ["run.py"])]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)


IMPORT = "from lightgen.generators.stripes import StripesConfig\n"


def with_stripes(copy):
    """The copy with the file and the line of the page."""
    file, line, _ = blocks()
    (copy / "lightgen/generators/stripes.py").write_text(file)
    union = copy / "lightgen/generators/config.py"
    text, count = re.subn(r"^AnyGenerator = .*\n(?:    .*\n|\)\n)*", line, union.read_text(), flags=re.MULTILINE)
    assert count == 1
    union.write_text(text.replace(line, f"{IMPORT}\n{line}"))
    return copy


def test_a_new_generator_is_one_file_and_one_line(copy):
    done = run(with_stripes(copy))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "6 {'kind': 'stripes', 'level': 40, 'revision': 1}"


def test_its_golden_is_one_line_and_notices_a_change(copy):
    cases = with_stripes(copy) / "tests/golden/cases/generators.py"
    before = 'Subject("generator sprites"'
    text = cases.read_text()
    assert text.count(before) == 1
    cases.write_text(IMPORT + text.replace(f"        {before}", f"{blocks()[2].rstrip()},\n        {before}"))
    keep = ("-m", "tests.golden.write", "generator stripes")
    assert run(copy, *keep).stdout == "generator stripes: 2 cases written\n"
    assert (copy / "tests/golden/outputs/generator-stripes.json").is_file()
    source = copy / "lightgen/generators/stripes.py"
    source.write_text(source.read_text().replace("seed % 8", "seed % 7"))
    done = run(copy, *keep)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "raise StripesConfig.REVISION to 2 in lightgen/generators/stripes.py" in done.stdout


def test_without_the_line_the_recipe_is_refused_by_name(copy):
    (copy / "lightgen/generators/stripes.py").write_text(blocks()[0])
    done = run(copy)
    assert done.returncode != 0, done.stdout
    assert "generate.generator" in done.stderr.replace("generate.made", "generate")
    assert "'scenes'" in done.stderr
