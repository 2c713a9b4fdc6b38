"""Curves and figures of a checkpoint: what is logged is shown, in one picture that stands alone."""

import base64
import json
import re
import xml.etree.ElementTree as ElementTree

import pytest

from lightgen.pages.curves import checkpoint_charts, curve_sheet, training_figures
from lightgen.pages.sheet import SHEET_POINTS
from lightgen.storage.store import open_or_create
from tests.checkpoint_version import SPEED, checkpoint, log_of

DPO = {"accuracy": 0.75, "margin": -0.125, "winner_error": 0.03, "loser_error": 0.02}


@pytest.fixture
def store(tmp_path):
    return open_or_create(str(tmp_path / "store"))


def svg_of(uri: str) -> str:
    head, _, data = uri.partition(",")
    assert head == "data:image/svg+xml;base64"
    text = base64.b64decode(data).decode()
    ElementTree.fromstring(text)
    return text


def test_a_sheet_is_one_well_formed_svg_that_needs_nothing_else(store):
    version = checkpoint(store, log_of(40))
    svg = svg_of(curve_sheet(version))
    assert svg.count("<polyline") == 2, "the values and their running mean"
    assert set(re.findall(r"""(?:href|src|url)\W[^>]*""", svg)) == set()
    used = set(re.findall(r'class="([^"]+)"', svg))
    styled = set(re.findall(r"\.(\w+)", re.search(r"<style>(.*)</style>", svg, re.DOTALL)[1]))
    assert {name for names in used for name in names.split()} <= styled
    assert len(checkpoint_charts("training", version)) == 1


def test_dpo_shows_accuracy_margin_and_both_errors(store):
    version = checkpoint(store, log_of(10, **DPO))
    svg = svg_of(curve_sheet(version))
    assert svg.count("<polyline") == 10
    assert svg.count('class="reference"') == 3
    for title in ("implicit accuracy", "margin", "noise error", ">winner<", ">loser<"):
        assert title in svg
    assert len(checkpoint_charts("training", version)) == 4


def test_a_long_run_fits_a_dashboards_database(store):
    long, short = checkpoint(store, log_of(20_000)), checkpoint(store, log_of(50))
    assert len(curve_sheet(long)) < 40_000
    assert len(re.findall(r"<polyline[^>]*>", svg_of(curve_sheet(long)))[0].split()) <= SHEET_POINTS + 3
    assert len(curve_sheet(short)) < len(curve_sheet(long))


def test_a_run_without_a_finite_loss_has_no_sheet_and_still_has_figures(store):
    log = [{"step": 1, "skipped": "loss or gradient is not finite"}, {"step": 2, "loss": float("nan"), "lr": 0.1}]
    version = checkpoint(store, log)
    assert curve_sheet(version) == ""
    assert training_figures(version) == {
        "steps": "2",
        "steps skipped": "1",
        "last loss": "nan",
        "last learning rate": "0.1",
    }


def test_figures_are_the_last_of_the_log_and_of_speed(store):
    found = training_figures(checkpoint(store, log_of(2000, 20, **DPO), SPEED, before=500))
    assert found == {
        "steps": "2,000",
        "steps with those before": "2,500",
        "last loss": "0.0050",
        "last implicit accuracy": "75.0%",
        "last margin": "-0.1250",
        "last learning rate": "0.001",
        "images a second": "1,234.5",
        "TFLOP/s": "321",
        "MFU": "41.1%",
        "device": "8 × cuda",
        "time in steps": "18 min 45 s",
        "GPU-hours": "2.5",
    }


def test_a_cpu_has_cpu_hours_and_no_mfu(store):
    speed = {**SPEED, "device": "cpu", "processes": 1, "mfu": 0.0, "gpu_hours": 0.0125}
    found = training_figures(checkpoint(store, log_of(3), speed))
    assert (found["CPU-hours"], found["device"]) == ("0.0125", "cpu")
    assert not {"MFU", "GPU-hours"} & set(found)


def test_the_keys_are_those_that_training_writes(store):
    from lightgen.pages.curves import Speed

    assert set(Speed.model_fields) == set(SPEED) == set(json.loads(Speed(**SPEED).model_dump_json()))
