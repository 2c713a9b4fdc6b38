"""Stages that train or ask a student: losses and gradient norms of three steps, and where the weights end."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from lightgen.stages import align, pretrain, reference
from lightgen.storage.version import Version
from tests.golden.compare import plain
from tests.golden.given import (
    WEIGHTS,
    context,
    described,
    one_thread,
    sealed_checkpoint,
    sealed_features,
    sealed_pair_features,
    sealed_pairs,
    sealed_texts,
)
from tests.golden.subject import Output, Subject, Tolerance

STUDENT = json.loads((WEIGHTS / "student" / "config.json").read_text())["student"]
OPTIMIZER = {"lr": 0.01, "warmup_steps": 1}
LOOP = {"steps": 3, "log_every": 1, "threads": 1, "precision": "fp32", "ema": 0.9, "optimizer": OPTIMIZER}
SAMPLES = {"iterations": 1, "head": "ddim", "head_steps": 2, "guidance": 1.0}
SHOWN = {"samples": SAMPLES, "sample_captions": 1}
MASKS = {"mean": 0.7, "std": 0.1, "low": 0.4, "high": 0.9, "visible_multiple": 2}
CLOSE, HALF = Tolerance(1e-4, 1e-5), Tolerance(3e-2, 3e-2)


def subjects() -> list[Subject]:
    """One a stage."""
    loose = {"auto": HALF, "bf16": HALF}
    return [
        Subject("stage pretrain", (pretrain,), pretrain.PretrainConfig, PRETRAININGS, _pretrain, CLOSE, loose),
        Subject("stage reference", (reference,), reference.ReferenceConfig, REFERENCES, _reference, CLOSE, loose),
        Subject("stage align", (align,), align.AlignConfig, ALIGNMENTS, _align, CLOSE),
    ]


def _student(**changes: Any) -> dict[str, Any]:
    return {**PRETRAINING, "student": STUDENT | changes}


def _loop(**changes: Any) -> dict[str, Any]:
    return {**PRETRAINING, "loop": LOOP | changes}


def _optimizer(**changes: Any) -> dict[str, Any]:
    return _loop(optimizer=OPTIMIZER | changes)


PRETRAINING: dict[str, Any] = {"student": STUDENT, "loop": LOOP, "batch_size": 4, "noise_copies": 2, **SHOWN}
PRETRAININGS: dict[str, dict[str, Any]] = {
    "plain": PRETRAINING,
    "masks": PRETRAINING | {"masks": MASKS, "noise_copies": 1, "time_power": 0.5, "variance_bound": False},
    "ratios": PRETRAINING | {"mask_ratios": 2, "launch": {"accumulate": 2}},
    "goes on": PRETRAINING | {"grid": 8},
    "goes on from the last weights": PRETRAINING | {"start_weights": "model"},
    "interleaved": _student(text="interleaved", text_depth=0, encoder_depth=2),
    "velocity": _student(prediction="velocity", head_depth=2),
    "sample": _student(prediction="sample", aligner_depth=0),
    "padding attended": _student(attend_padding=True, quirky_positions=True),
    "residual before the norm": _student(skip_after_norm=False),
    "sizes": _student(width=12, heads=3, decoder_depth=2, text_depth=2, head_width=12, patch=1, grid=8),
    "numbers": _student(text_scale=2.0, text_positions=3, init_std=0.1, mlp_ratio=2.0, dropout=0.0, text_drop=0.5),
    "muon": _optimizer(kind="muon"),
    "cosine": _optimizer(decay="cosine", final_lr=0.1),
    "linear": _optimizer(decay="linear", decay_from=0.3, warmup_steps=0),
    "adamw": _optimizer(betas=[0.8, 0.9], weight_decay=0.3, clip=0.1),
    "other steps": _loop(steps=4, ema=0.0, spike=9.0, max_bad_steps=3, max_rollbacks=1),
    "auto": _loop(precision="auto"),
    "bf16": _loop(precision="bf16"),
    "tf32": _loop(precision="tf32"),
}
REFERENCES: dict[str, dict[str, Any]] = {
    "plain": {"draws": 2, "noise_copies": 2},
    "masks": {"draws": 1, "noise_copies": 1, "masks": MASKS},
    "last weights": {"draws": 1, "weights": "model"},
    "bf16": {"draws": 1, "precision": "bf16"},
    "tf32": {"draws": 1, "precision": "tf32"},
}
ALIGNMENT: dict[str, Any] = {"loop": LOOP, "batch_size": 3, "noise_copies": 2, "beta": 20.0, **SHOWN}
ALIGNMENTS: dict[str, dict[str, Any]] = {
    "dpo": ALIGNMENT,
    "harder": ALIGNMENT | {"beta": 200.0, "masks": MASKS, "noise_copies": 1},
    "few draws": ALIGNMENT | {"reference_draws": 2},
    "sft": ALIGNMENT | {"objective": "sft"},
    "sft without variance": ALIGNMENT | {"objective": "sft", "variance_bound": False},
    "last weights": ALIGNMENT | {"start_weights": "model"},
    "weighted": ALIGNMENT | {"pair_weights": "margin"},
    "shuffled": ALIGNMENT | {"labels": "shuffled"},
    "anchored": ALIGNMENT | {"anchor": 10.0},
    "ratios": ALIGNMENT | {"batch_size": 4, "mask_ratios": 2, "launch": {"accumulate": 2}, "reference_draws": 2},
    "coarse control": ALIGNMENT | {"objective": "sft", "time_power": 0.5},
}


def _pretrain(config: pretrain.PretrainConfig, folder: Path) -> Output:
    works = context(folder)
    features, texts = sealed_features(works.store), sealed_texts(works.store, padded=config.sizes().attend_padding)
    goes_on = config.grid is not None or config.start_weights == "model"
    start = [sealed_checkpoint(works.store)] if goes_on else []
    with one_thread():
        ref = pretrain.pretrain(features, texts, config, works, *start)
    return _trained(works.store.open(ref), described(works.store, ref))


def _align(config: align.AlignConfig, folder: Path) -> Output:
    works = context(folder)
    start, pairs, texts = sealed_checkpoint(works.store), sealed_pair_features(works.store), sealed_texts(works.store)
    with one_thread():
        further = [reference.reference(start, pairs, texts, config.reference, works)] if config.reference else []
        further += [sealed_pairs(works.store, pairs)] if config.pair_weights == "margin" else []
        ref = align.align(start, pairs, texts, config, works, *further)
    return _trained(works.store.open(ref), described(works.store, ref))


def _reference(config: reference.ReferenceConfig, folder: Path) -> Output:
    works = context(folder)
    with one_thread():
        parents = sealed_checkpoint(works.store), sealed_pair_features(works.store), sealed_texts(works.store)
        ref = reference.reference(*parents, config, works)
    return described(works.store, ref)


def _trained(version: Version, told: dict[str, Output]) -> Output:
    """Plan and settings of a checkpoint, its log, and the lengths of its weights in place of their digests."""
    log = [json.loads(line) for line in version.file("log.jsonl").read_text().splitlines()]
    weights = {name: load_file(version.file(f"{name}.safetensors")) for name in ("model", "ema")}
    lengths = {name: {key: float(torch.linalg.vector_norm(value)) for key, value in tensors.items()}
               for name, tensors in weights.items()}  # fmt: skip
    total = {name: sum(each.values()) for name, each in lengths.items()}
    student = told["files"]["config.json"]["student"]
    return plain({"plan": told["plan"], "log": log, "lengths": total, "student": student})
