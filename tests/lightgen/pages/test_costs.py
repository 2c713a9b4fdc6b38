"""docs/costs.md is that of the code, and its figures are those of `lightgen plan`."""

import re
from pathlib import Path

from lightgen.operations.machines import described
from lightgen.operations.outlook import MFU
from lightgen.operations.preflight import preflight
from lightgen.pages.costs import RECIPES, markdown
from lightgen.recipe import load_recipe

ROOT = Path(__file__).parents[3]


def rows(name: str) -> dict[str, list[str]]:
    """Cells by step of a recipe's table."""
    section = (ROOT / "docs/costs.md").read_text().split(f"recipes/{name}.yaml`")[1].split("## ")[0]
    lines = re.findall(r"^\| (?:`|\*\*)(.+?)(?:`|\*\*) \| (.*) \|$", section, re.MULTILINE)
    return {step: cells.split(" | ") for step, cells in lines}


def test_the_page_is_that_of_the_code():
    assert (ROOT / "docs/costs.md").read_text() == markdown(), "run `lightgen costs > docs/costs.md`"


def test_hours_are_those_of_plan(tmp_path):
    for name in RECIPES:
        found = preflight(load_recipe(name), str(tmp_path / "none"), machine=described("8xA100-80"))
        told = {line.step.name: line.device_seconds for line in found.lines if line.device_seconds}
        assert len(told) > 10
        shown = {step: float(cells[3].replace(",", "").lstrip("< ")) for step, cells in rows(name).items()}
        assert set(shown) == {*told, "in all"}
        for step, seconds in told.items():
            assert abs(shown[step] - seconds / 3600) <= max(0.1, 0.006 * seconds / 3600), (name, step)
        assert abs(shown["in all"] - sum(told.values()) / 3600) < 0.006 * shown["in all"]


def test_the_teacher_is_counted_by_hand():
    operations = 2_000_000 * 2 * 12e9 * 1536 * 28
    hours = operations / (MFU * 312e12) / 3600
    step, clock = (float(cell.replace(",", "")) for cell in rows("paper")["generate"][3:5])
    assert abs(step / hours - 1) < 0.01
    assert abs(8 * clock / step - 1) < 0.01
