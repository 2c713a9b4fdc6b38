"""Every fault of a recipe is found before the first step, at the setting that is wrong; a sound recipe has none."""

import json
import re
from functools import cache
from pathlib import Path

import pytest
from safetensors.torch import save_file
from torch import zeros

from lightgen.config import problems_of
from lightgen.generators.flux import FluxConfig
from lightgen.model.config import PRESETS
from lightgen.operations.machines import described
from lightgen.operations.preflight import preflight
from lightgen.operations.training_cost import StudentAtSize
from lightgen.problems import Problem
from lightgen.recipe import load_recipe
from lightgen.storage.weights import Weights

ROOT = Path(__file__).parents[3]
TINY = str(ROOT / "tests" / "recipes" / "tiny.yaml")
EIGHT = described("8xH100")
PIN = "0" * 40
LIVE = {"align.reference_draws": None}
WIDE = {"width": 4096, "heads": 32, "grid": 16}  # 11B: 240 GB of state
JSONL = {"kind": "jsonl", "path": "p.jsonl", "field": "prompt", "source": "files"}

# Overrides of the tiny recipe (of paper where they begin with `paper`), the setting that must be named, and how grave.
FAULTS = {
    "no evaluation": ({"evaluate": None}, "evaluate", "gap"),
    "no control": ({"control": None}, "control", "remark"),
    "captions of the test are trained on": ({"test.source.corpora.0.split": "train"}, "select.evaluation", "gap"),
    "captions that are written may be those of the test": (
        {"recaption": {"captioner": {"kind": "given"}}}, "recaption.evaluation", "gap",
    ),
    "paper: captions that are written may be those of the test": (
        {"links.recaption.evaluation": []}, "links.recaption.evaluation", "gap",
    ),
    "paper: pictures as they were received": ({"links.fetch.crop_px": None}, "links.fetch.crop_px", "gap"),
    "paper: no audit": ({"audit": None}, "audit", "gap"),
    "paper: people are to agree and nobody was asked": ({"audit.least_accuracy": 0.7}, "audit.least_accuracy", "stops"),
    "paper: people are to agree with each other": ({"audit.least_alpha": 0.4}, "audit.least_alpha", "stops"),
    "paper: a second judge is to agree and there is none": ({"audit.least_kappa": 0.4}, "audit.least_kappa", "stops"),
    "paper: an order that nobody asks about": ({"audit.least_order": 0.8}, "audit.least_order", "stops"),
    "paper: a probe that is not made": ({"audit.probe": {"probes": ["same"]}}, "audit.least_probe", "stops"),
    "paper: a judge that knows only the evaluation": ({"pair.judge": {"kind": "mask2former"}}, "pair.judge", "stops"),
    "a batch that cannot be cut": ({"pretrain.0.launch": {"processes": 3}}, "pretrain.0.batch_size", "stops"),
    "a batch of pairs that cannot be cut": ({"align.launch": {"accumulate": 3}}, "align.batch_size", "stops"),
    "more ratios than microbatches": ({"pretrain.0.mask_ratios": 4}, "pretrain.0.mask_ratios", "stops"),
    "more ratios of pairs than microbatches": ({"align.mask_ratios": 2}, "align.mask_ratios", "stops"),
    "a control of other noise": ({"control.time_power": 0.5}, "control.time_power", "gap"),
    "a control of other masks": ({"pretrain.1.masks": {"std": 0.5}}, "control.masks", "gap"),
    "paper: a control of one share of hidden tokens": ({"control.mask_ratios": 1}, "control.mask_ratios", "gap"),
    "a preference of coarse noise": ({"align.time_power": 0.5}, "align.time_power", "stops"),
    "muon under fsdp": (
        {"pretrain.0.launch": {"processes": 2, "strategy": "fsdp"}, "pretrain.0.loop.optimizer.kind": "muon"},
        "pretrain.0.loop.optimizer.kind",
        "stops",
    ),
    "a warm-up longer than the run": (
        {"pretrain.1.loop.optimizer.warmup_steps": 30},
        "pretrain.1.loop.optimizer.warmup_steps",
        "remark",
    ),
    "paper: DPO in bfloat16": ({"align.loop.precision": "bf16"}, "align.loop.precision", "gap"),
    "an unknown preset": ({"pretrain.0.student": "lightgen-9b"}, "pretrain.0.student", "stops"),
    "a text of other width": ({"pretrain.0.student.text_dim": 17}, "pretrain.0.student.text_dim", "stops"),
    "padding attended that is not given": (
        {"pretrain.0.student.attend_padding": True}, "pretrain.0.student.attend_padding", "stops",
    ),
    "latents of other channels": (
        {"pretrain.0.student.latent_channels": 8},
        "pretrain.0.student.latent_channels",
        "stops",
    ),
    "half a token": ({"encode.0.size_px": 20}, "encode.0.size_px", "stops"),
    "a resolution twice": ({"encode.0.size_px": 32}, "encode", "stops"),
    "two VAEs": ({"encode.0.vae.channels": 8}, "encode.0.vae", "stops"),
    "enlarged images": ({"generate.size_px": 16}, "encode.1.size_px", "gap"),
    "another student at the second size": ({"pretrain.1.student.width": 64}, "pretrain.1.student", "gap"),
    "more prompts than captions": ({"select.count": 1000}, "select.count", "gap"),
    "weights of a source that is not there": (
        {"generate.samples_by_source": {"scenes/train/colours": 3}},
        "generate.samples_by_source",
        "stops",
    ),
    "a rule on a score that is not there": (
        {"filter.rules": [{"column": "aesthetic.score", "least": 5}]},
        "filter.rules.0.column",
        "stops",
    ),
    "a hash that is not there": (
        {"filter.repeats": [{"column": "pixels.ahash"}]},
        "filter.repeats.0.column",
        "stops",
    ),
    "a judge that says nothing": ({"pair.judge": {"kind": "pixels"}}, "pair.judge", "stops"),
    "a detector that detects nothing": ({"evaluate.detector": {"kind": "pixels"}}, "evaluate.verdict", "stops"),
    "a verdict of other scores": ({"evaluate.verdict": {"kind": "geneval"}}, "evaluate.verdict", "stops"),
    "a corpus that is not there": ({"source.corpora.0": JSONL}, "source.corpora.0", "stops"),
    "prompts of no known meaning": ({"test.source.corpora.0": JSONL}, "evaluate.metadata", "stops"),
    "metadata that is not there": ({"evaluate.metadata": "m.jsonl"}, "evaluate.metadata", "stops"),
    "a judge of scenes over files": ({"held_out.source.corpora.0": JSONL}, "pair.judge", "stops"),
    "a teacher that is to win and is not named": (
        {"generate": {"use": "images@latest"}},
        "pair.winner",
        "stops",
    ),
    "paper: counted by words": ({"source.tokenizer": "words"}, "source.tokenizer", "gap"),
    "paper: longer captions than are read": ({"source.max_tokens": 256}, "source.max_tokens", "gap"),
    "paper: no decontamination": ({"select.evaluation": []}, "select.evaluation", "gap"),
    "paper: sides that flux cannot draw": ({"generate.size_px": 520}, "generate.size_px", "stops"),
    "paper: sides of the teacher at the evaluation": (
        {"evaluate.models.teacher.size_px": 520}, "evaluate.models.teacher.size_px", "stops",
    ),
    "paper: a verdict of scenes": ({"evaluate.verdict": {"kind": "scenes"}}, "evaluate.verdict", "stops"),
    "paper: too few GPUs": ({"pretrain.0.launch.processes": 16}, "pretrain.0.launch.processes", "stops"),
    "paper: too little memory": ({"pretrain.1.launch.accumulate": 2}, "pretrain.1.launch.accumulate", "stops"),
    "paper: too little memory for pairs": ({"align.launch.accumulate": 16}, "align.launch.accumulate", "stops"),
    "paper: a model too large": ({"pretrain.0.student": WIDE}, "pretrain.0.launch.strategy", "stops"),
    "paper: one GPU of eight": ({"run.engine": "serial"}, "run.engine", "gap"),
}  # fmt: skip


@cache
def where_sound(base: str, weight: str) -> set[str]:
    """Settings that an unchanged recipe is told of."""
    return {where for problem in problems(base, {}) if problem.weight == weight for where in problem.where.split(", ")}


def problems(name: str, overrides: dict) -> list[Problem]:
    recipe = load_recipe("paper" if name.startswith("paper") else TINY, overrides)
    return list(preflight(recipe, "nowhere", machine=EIGHT, compare=False).problems)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_where_it_is(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    overrides, where, weight = FAULTS[name]
    found = [one for one in problems(name, overrides) if where in one.where.split(", ") and one.weight == weight]
    assert found, [str(one) for one in problems(name, overrides)]
    assert where not in where_sound(name.partition(":")[0] if name.startswith("paper") else "tiny", weight)
    assert all(problem.what and problem.fix for problem in found)


def folder_of(path: Path, parts: int = 2) -> Path:
    """Weights in parts, as a large model has them."""
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    names = [f"model-{n:05d}-of-{parts:05d}.safetensors" for n in range(1, parts + 1)]
    for name in names:
        save_file({name: zeros(1)}, path / name)
    weight_map = {f"layer{n}": name for n, name in enumerate(names)}
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return path


def test_a_folder_of_weights_must_be_whole(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model")
    assert list(problems_of(Weights(model=str(folder)))) == []
    (folder / "model-00002-of-00002.safetensors").unlink()
    (one,) = problems_of(Weights(model=str(folder)), "judge")
    assert (one.place, one.where) == ("here", "judge.model")
    assert "model-00002-of-00002.safetensors" in one.what


def test_a_model_in_the_cache_is_here_and_its_commit_is_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    folder_of(tmp_path / "models--owner--name" / "snapshots" / PIN)
    assert list(problems_of(Weights(model="owner/name", revision=PIN))) == []
    (unpinned,) = problems_of(Weights(model="owner/name"))
    assert (unpinned.place, unpinned.where) == ("recipe", "revision")
    assert PIN in unpinned.fix


def test_a_pipeline_is_looked_into(tmp_path: Path) -> None:
    for part in FluxConfig().models:
        folder_of(tmp_path / part)
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "SanaPipeline"}))
    (one,) = problems_of(FluxConfig(model=str(tmp_path)))
    assert "SanaPipeline" in one.what


def test_too_little_memory_names_an_accumulate_that_fits_and_not_a_smaller_one_that_does() -> None:
    """For pretraining, the control, pairs and their live and cached reference: what is told fits, one step less not."""
    for part, changes in (("pretrain.0", {}), ("pretrain.1", {}), ("control", {}), ("align", {}), ("align", LIVE)):
        key = f"{part}.launch.accumulate"
        told = [one for one in problems("paper", {key: 1, "align.mask_ratios": 1, **changes}) if one.where == key]
        fits = next(int(found[1]) for one in told if (found := re.search(r"set it to (\d+), which fits", one.fix)))
        at = {accumulate: [one for one in problems("paper", {key: accumulate, **changes}) if key in one.where]
              for accumulate in (fits, fits // 2)}  # fmt: skip
        assert not at[fits], part
        assert {one.weight for one in at[fits // 2]} == {"stops"}, part


def test_a_live_reference_takes_a_model_more_and_recomputing_less() -> None:
    recipe = load_recipe("paper")
    student = StudentAtSize(PRESETS["lightgen-0.7b"], 1024, 128)
    cached = recipe.align
    live = cached.model_copy(update={"reference_draws": None})
    assert student.state_memory(live) - student.state_memory(cached) == 4 * 708_847_744
    again = cached.model_copy(update={"launch": cached.launch.model_copy(update={"recompute": True})})
    assert student.sample_memory(again) < 0.35 * student.sample_memory(cached)
    rounded = cached.model_copy(update={"loop": cached.loop.model_copy(update={"precision": "bf16"})})
    assert student.sample_memory(rounded) < 0.6 * student.sample_memory(cached)
    assert student.sample_memory(recipe.control) < 0.55 * student.sample_memory(cached)
    assert cached.reference is not None
    assert student.training_memory(cached.reference) < 0.1 * student.training_memory(cached)


def test_a_reference_that_is_asked_about_too_many_pairs_at_once_is_told() -> None:
    launch = {"processes": 8, "accumulate": 1, "recompute": True}
    told = problems("paper", {"align.launch": launch, "align.batch_size": 8192, "align.mask_ratios": 1})
    (only,) = [one for one in told if "the reference is asked about" in one.fix]
    assert only.weight == "stops"
    assert "1,024 pairs" in only.fix
