"""Generator `images_api`: what images cost, and that none is bought twice, whatever ends the work."""

import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from lightgen.errors import ServiceRefused, SpendLimit
from lightgen.generators.base import Stop
from lightgen.operations.preflight import preflight
from lightgen.operations.run import run_recipe
from lightgen.recipe import Recipe
from lightgen.storage.store import Store, open_or_create
from tests.lightgen.generators.images_client import KEY, PROMPTS, SEEDS, client, settings
from tests.servers.chat import hang, refuse
from tests.servers.images import ImagesServer


def test_no_image_is_bought_beyond_the_limit() -> None:
    with ImagesServer() as server:
        prices = {"usd_per_answer": 0.04, "limit_usd": 0.1}
        images = client(server, prices=prices).generate(PROMPTS, SEEDS, 64, 64)
    assert len(server.asked) == 2
    assert sum(isinstance(one, np.ndarray) for one in images) == 2
    errors = [one.error for one in images if isinstance(one, Stop)]
    assert {type(error) for error in errors} == {SpendLimit}
    assert "limit_usd is 0.1" in str(errors[0])


def test_tokens_are_paid_for_as_the_service_counts_them() -> None:
    def counted(_: Any, answer: dict[str, Any]) -> dict[str, Any]:
        return {**answer, "usage": {"input_tokens": 100, "output_tokens": 1000, "total_tokens": 1100}}

    with ImagesServer(shape=counted) as server:
        generator = client(server, prices={"usd_per_million_in": 5, "usd_per_million_out": 40})
        generator.generate(PROMPTS[:2], [1, 2], 64, 64)
    assert generator.spend.usd == pytest.approx(2 * (100 * 5 + 1000 * 40) / 1e6)


# --- in a store -------------------------------------------------------------------------------------------------------


def recipe(server: ImagesServer, **changes: Any) -> Recipe:
    return Recipe.model_validate({
        "name": "paid", "source": {"corpora": [{"kind": "scenes", "split": "train", "count": 12}], "shard_rows": 6},
        "select": {"near_duplicates": None},
        "generate": {
            "generator": settings(server, **changes).model_dump(), "size_px": 32, "batch": 3, "format": "png",
            "max_reject_fraction": 0.5,
        },
    })  # fmt: skip


def images_of(store: Store, server: ImagesServer, **changes: Any) -> Any:
    return store.open(run_recipe(recipe(server, **changes), store, ["generate"])["generate"])


def contents(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_the_key_is_in_no_file_and_no_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    echoes = refuse(400, {"error": {"message": f"no {KEY}", "code": "content_policy_violation"}})
    store = open_or_create(str(tmp_path / "store"))
    with ImagesServer([echoes, refuse(500, {"error": {"message": KEY}})]) as server:
        version = images_of(store, server, key_env="API_KEY")
    assert version.rows == 11
    (reject,) = [row for shard in range(version.n_shards) for row in version.rejects(shard).to_pylist()]
    assert reject["reason"] == "refused"
    assert "***" in reject["detail"]
    everything = contents(tmp_path)
    assert KEY.encode() not in everything
    assert KEY not in caplog.text
    assert b"images_api" in everything  # what is in the store is found


def test_what_was_paid_for_before_the_limit_is_not_bought_again(tmp_path: Path) -> None:
    store = open_or_create(str(tmp_path / "store"))
    with ImagesServer() as server:
        with pytest.raises(SpendLimit, match="give the same command again with a higher limit"):
            images_of(store, server, prices={"usd_per_answer": 1, "limit_usd": 8.5})
        bought = len(server.asked)
        assert bought == 8
        version = images_of(store, server, prices={"usd_per_answer": 1, "limit_usd": 100})
        assert len(server.asked) == version.rows == 12
    prompts = [ask["prompt"] for ask in server.asked]
    assert len(set(prompts)) == 12


def test_a_kill_buys_one_batch_again_at_most(tmp_path: Path) -> None:
    path, base, log = tmp_path / "paid.yaml", str(tmp_path / "store"), tmp_path / "log"
    with ImagesServer([*[lambda *_: None] * 8, hang(600)]) as server:  # type: ignore[list-item]
        path.write_text(yaml.safe_dump(recipe(server, concurrency=1).model_dump(mode="json", exclude_unset=True)))
        words = [sys.executable, "-m", "lightgen.cli", "run", str(path), "--store", base]
        with log.open("wb") as sink:
            process = subprocess.Popen(words, stdout=sink, stderr=sink)
        deadline = time.monotonic() + 120
        while len(server.asked) < 9 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
        process.wait()
        assert len(server.asked) == 9, log.read_text()
        version = images_of(open_or_create(base), server, concurrency=1)
    prompts = [ask["prompt"] for ask in server.asked]
    assert version.rows == len(set(prompts)) == 12
    assert len(prompts) - 12 <= 3  # of the batch under way


def test_a_wrong_key_is_one_error_and_nothing_is_bought_again_after_it_is_put_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", KEY)
    store = open_or_create(str(tmp_path / "store"))
    with ImagesServer([lambda *_: None] * 4 + [refuse(401)]) as server:  # type: ignore[list-item]
        with pytest.raises(ServiceRefused, match="HTTP 401"):
            images_of(store, server, key_env="API_KEY", concurrency=1)
        assert len(server.asked) == 5
        images_of(store, server, key_env="API_KEY")
    prompts = [ask["prompt"] for ask in server.asked]
    assert len(prompts) == 13
    assert len(set(prompts)) == 12


def test_the_words_that_were_drawn_are_kept_beside_the_caption_and_given_to_captioners(tmp_path: Path) -> None:
    store = open_or_create(str(tmp_path / "store"))

    def revised(ask: Any, answer: dict[str, Any]) -> dict[str, Any]:
        answer["data"][0]["revised_prompt"] = f"A photograph of {ask['prompt']}"
        return answer

    with ImagesServer(shape=revised) as server:
        base = recipe(server).model_dump()
        whole = Recipe.model_validate({**base, "filter": {}, "recaption": {"captioner": {"kind": "given"}}})
        made = run_recipe(whole, store, ["recaption"])
    rows = store.open(made["generate"]).table().to_pylist()
    assert all(row["revised"] == f"A photograph of {row['caption']}" for row in rows)
    told = {row["image_id"]: row["caption"] for row in store.open(made["recaption"]).table().to_pylist()}
    assert told == {row["id"]: row["revised"] for row in rows}


def test_plan_tells_what_the_images_cost(tmp_path: Path) -> None:
    with ImagesServer() as server:
        found = preflight(recipe(server, prices={"usd_per_answer": 0.04}), str(tmp_path / "store"), [], None, None)
    (line,) = [line for line in found.lines if line.step.stage == "generate"]
    assert line.fees == pytest.approx(12 * 0.04)
    assert not server.asked
