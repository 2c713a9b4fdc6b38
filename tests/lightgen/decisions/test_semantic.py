"""Captions of one meaning against all cosines; bands that are too few must be seen to miss."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightgen.corpora.text import TextCorpus
from lightgen.decisions.semantic import STEPS, SemanticConfig, plan_signs, refuse_like
from lightgen.encoders.sentence import SentenceConfig
from lightgen.encoders.tiny import tiny_bert
from lightgen.stages.select import SelectConfig, select
from lightgen.stages.source import SourceConfig, source
from lightgen.storage.store import open_or_create
from lightgen.work import Context


def vectors(n: int, d: int, seed: int = 0) -> np.ndarray:
    """Clusters, some of whose pairs lie on either side of a cosine of 0.95."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n // 4, d))[rng.integers(n // 4, size=n)] + 0.22 * rng.normal(size=(n, d))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def config(**settings: float) -> SemanticConfig:
    return SemanticConfig(encoder=SentenceConfig(model="unused"), **settings)  # pyright: ignore[reportArgumentType]


def by_definition(x: np.ndarray, threshold: float) -> list[int]:
    points = np.rint(x * STEPS).astype(np.int64)
    length = np.sqrt((points**2).sum(axis=1))
    near = points @ points.T / np.outer(length, length) >= threshold
    twin = [-1] * len(x)
    kept: list[int] = []
    for i in range(len(x)):
        first = next((j for j in kept if near[i, j]), -1)
        twin[i] = first
        if first < 0:
            kept.append(i)
    return twin


def test_kept_are_those_of_the_definition_and_the_recall_is_that_of_all_pairs() -> None:
    x = vectors(800, 48)
    found, sure = refuse_like(x, config(recall=0.9999))
    expected = by_definition(x, 0.95)
    assert found.refused.tolist() == expected
    assert 100 < sum(twin >= 0 for twin in expected) < 700
    assert sure.pairs > 50
    assert sure.found == sure.pairs
    assert found.skipped == 0


def test_few_bands_miss_and_say_so() -> None:
    x = vectors(800, 48)
    _, sure = refuse_like(x, config(recall=0.2))
    assert sure.found < 0.8 * sure.pairs


def test_bands_reach_the_recall_that_was_asked_for() -> None:
    for threshold, recall in ((0.95, 0.99), (0.8, 0.9)):
        bands = plan_signs(threshold, recall)
        shares = (1 - np.arccos(threshold) / np.pi) ** 14
        assert 1 - (1 - shares) ** bands >= recall > 1 - (1 - shares) ** (bands - 1)


def test_without_captions_there_is_nothing_to_refuse() -> None:
    found, sure = refuse_like(np.zeros((0, 8), np.float32), config())
    assert (found.refused.tolist(), sure) == ([], (0, 0))


def test_the_stage_refuses_what_a_model_holds_for_the_same_and_names_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("LIGHTGEN_CACHE", str(tmp_path / "cache"))
    texts = ["a red cat", "two green circle", "red cat a", "blue dog and three square"]
    (tmp_path / "a.txt").write_text("\n".join(texts))
    context = Context(open_or_create(str(tmp_path / "store")))
    given = source(SourceConfig(corpora=[TextCorpus(path=str(tmp_path / "a.txt"), source="t")], shard_rows=3), context)
    encoder = SentenceConfig(model=str(tiny_bert(tmp_path / "model")))
    prompts = context.store.open(
        select(given, SelectConfig(semantic=SemanticConfig(encoder=encoder, threshold=0.9)), context)
    )
    x = encoder.open("cpu").encode(texts)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, rtol=1e-5)
    near = {(i, j) for i in range(4) for j in range(i) if x[i] @ x[j] >= 0.9}
    rejects = prompts.rejects().to_pylist()
    assert {row["reason"] for row in rejects} == {"duplicate_semantic"}
    kept = set(prompts.table()["caption"].to_pylist())
    for row in rejects:
        _, _, told = row["detail"].partition(": ")
        caption = texts[int(row["id"][-12:], 16)]
        assert told in kept
        assert tuple(sorted((texts.index(caption), texts.index(told)), reverse=True)) in near
    assert len(kept) + len(rejects) == 4
    encoded: Any = prompts.plan.config["semantic"]
    assert encoded["encoder"]["weights"]["sha256"]


@pytest.mark.parametrize("texts", [[], [""], ["a", "a very red cat " * 200]])
def test_a_vector_does_not_hang_on_what_shares_its_batch(tmp_path: Path, texts: list[str]) -> None:
    encoder = SentenceConfig(model=str(tiny_bert(tmp_path / "model"))).open("cpu")
    together = encoder.encode([*texts, "blue dog"])
    assert together.shape == (len(texts) + 1, encoder.dim)
    np.testing.assert_allclose(together[-1], encoder.encode(["blue dog"])[0], atol=1e-6)
