"""Generator `images_api` against a real server on loopback that misbehaves; nothing of the client is replaced."""

import asyncio
import base64
import logging
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from lightgen.config import problems_of
from lightgen.errors import ConfigError, ServiceRefused, SpendLimit, TryLater
from lightgen.fetch.loopback import drawn
from lightgen.generators.base import Failure, Retry, Revised, Stop
from lightgen.generators.images_api import ImagesApiConfig, ImagesApiGenerator
from lightgen.http import Timing
from lightgen.operations.preflight import preflight
from lightgen.operations.run import run_recipe
from lightgen.recipe import Recipe
from lightgen.stages.generate import GenerateConfig
from lightgen.storage.pixels import decode_image
from lightgen.storage.store import Store, open_or_create
from tests.servers.chat import cut, drip, hang, refuse
from tests.servers.images import ImagesServer, data, picture, refusal, text

KEY = "sk-proj-abcdefghij0123456789"
PROMPTS = [f"a red circle and {number} things" for number in range(6)]
SEEDS = list(range(6))


def settings(server: ImagesServer, **changes: Any) -> ImagesApiConfig:
    base = {"model": "m", "sizes": ("64x64",), "patience": {"timeout_s": 0.5}}
    return ImagesApiConfig(url=server.api, **{**base, **changes})


def client(server: ImagesServer, **changes: Any) -> ImagesApiGenerator:
    return ImagesApiGenerator(settings(server, **changes), Timing(sleep=lambda _: None))


def expected(prompt: str, size: str = "64x64") -> np.ndarray:
    pixels = decode_image(base64.b64decode(drawn({"prompt": prompt, "size": size})["data"][0]["b64_json"]))
    assert isinstance(pixels, np.ndarray)
    return pixels


def test_what_is_sent_and_what_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", KEY)
    with ImagesServer() as server:
        told = {"options": {"quality": "hd", "user": "me"}, "seed_key": "seed", "response_format": "b64_json"}
        images = client(server, key_env="API_KEY", **told).generate(PROMPTS, [7, 2**40, 1, 2, 3, 4], 64, 64)
    for prompt, image in zip(PROMPTS, images, strict=True):
        assert np.array_equal(image, expected(prompt))  # type: ignore[arg-type]
    first = next(ask for ask in server.asked if ask["prompt"] == PROMPTS[1])
    assert first == {
        "model": "m", "prompt": PROMPTS[1], "n": 1, "size": "64x64", "quality": "hd", "user": "me",
        "response_format": "b64_json", "seed": 2**40 % 2**31,
    }  # fmt: skip
    assert set(server.keys) == {f"Bearer {KEY}"}


def test_nothing_is_sent_that_was_not_asked_for() -> None:
    with ImagesServer() as server:
        client(server).generate(PROMPTS[:1], [1], 64, 64)
    assert set(server.asked[0]) == {"model", "prompt", "n", "size"}
    assert server.keys == [""]


def test_several_are_under_way_at_once_and_come_back_in_order() -> None:
    with ImagesServer([hang(0.1)] * 6) as server:  # type: ignore[list-item]
        images = client(server, concurrency=3).generate(PROMPTS, SEEDS, 64, 64)
    assert server.most_at_once == 3
    for prompt, image in zip(PROMPTS, images, strict=True):
        assert np.array_equal(image, expected(prompt))  # type: ignore[arg-type]


def test_requests_are_as_far_apart_as_the_limit_says() -> None:
    slept: list[float] = []
    with ImagesServer() as server:
        config = settings(server, patience={"per_minute": 60})
        ImagesApiGenerator(config, Timing(sleep=slept.append, clock=lambda: 0.0)).generate(PROMPTS, SEEDS, 64, 64)
    assert sorted(slept) == [1, 2, 3, 4, 5]


# --- sizes ------------------------------------------------------------------------------------------------------------

DALLE_3 = ("1024x1024", "1792x1024", "1024x1792")


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (512, 512, "1024x1024"), (1024, 1024, "1024x1024"), (512, 1024, "1792x1024"), (1792, 1024, "1024x1792"),
        (600, 500, "1024x1024"), (1024, 1025, "1792x1024"), (1025, 1025, ""), (2048, 1024, ""),
    ],
)  # fmt: skip
def test_the_size_is_asked_for_that_loses_least(height: int, width: int, size: str) -> None:
    config = ImagesApiConfig(url="http://127.0.0.1:1/v1", model="m", sizes=DALLE_3)
    assert config.asked_size(height, width) == size
    problems = [one.what for one in problems_of(GenerateConfig(generator=config, height_px=height, width_px=width))]
    assert any("no size that covers" in one for one in problems) == (not size)


def test_an_image_is_scaled_until_it_covers_and_its_centre_is_kept() -> None:
    stripes = np.zeros((40, 80, 3), np.uint8)
    stripes[:, 20:60] = 255
    from lightgen.storage.pixels import encode_image

    coded = base64.b64encode(encode_image(stripes, "png")).decode()
    with ImagesServer([data(b64_json=coded)]) as server:
        (image,) = client(server, sizes=("80x40",)).generate(["x"], [1], 20, 20)
    assert isinstance(image, np.ndarray)
    assert image.shape == (20, 20, 3)
    assert image.min() == 255  # the black sides are cut off


@pytest.mark.parametrize("size", ["1024", "1024X1024", "0x1024", "1024x1024 "])
def test_what_is_no_size_is_refused(size: str) -> None:
    with pytest.raises(ValidationError, match="no size such as"):
        ImagesApiConfig(url="http://127.0.0.1:1/v1", model="m", sizes=(size,))


# --- a server that misbehaves -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param([refuse(429, retry_after="1")], id="429"),
        pytest.param([refuse(500), refuse(503)], id="500"),
        pytest.param([cut], id="cut"),
        pytest.param([hang(3)], id="hang"),
        pytest.param([drip], id="drip"),
        pytest.param([text("<html>")], id="no JSON"),
        pytest.param([text("[]")], id="no object"),
        pytest.param([data(b64_json="%%%")], id="no base64"),
        pytest.param([data(b64_json=base64.b64encode(b"GIF89a").decode())], id="no image"),
        pytest.param([data(revised_prompt="x")], id="no picture"),
    ],
)
def test_trouble_that_passes_changes_nothing(trouble: list[Any]) -> None:
    with ImagesServer(trouble) as server:
        patience = {"timeout_s": 0.5, "deadline_s": 4}
        images = client(server, concurrency=1, patience=patience).generate(PROMPTS[:2], [1, 2], 64, 64)
    if any(isinstance(one, Stop) for one in images):  # a byte at a time only ends with the deadline
        assert trouble == [drip]
        return
    for prompt, image in zip(PROMPTS, images, strict=False):
        assert np.array_equal(image, expected(prompt))  # type: ignore[arg-type]
    assert len(server.asked) == 2 + len(trouble)


def test_a_wait_that_is_asked_for_is_kept() -> None:
    slept: list[float] = []
    with ImagesServer([refuse(429, retry_after="7")]) as server:
        ImagesApiGenerator(settings(server), Timing(sleep=slept.append)).generate(["x"], [1], 64, 64)
    assert sum(slept) >= 7


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (data(b64_json="%%%"), "base64"),
        (data(b64_json=base64.b64encode(b"no picture").decode()), "not_an_image"),
        (data(b64_json=picture(64, 64)[:60]), "image_truncated"),
        (data(), "no_picture"),
        (data(b64_json=picture(32, 64)), "image_size"),
        (refusal(message="rejected by our safety system"), "refused"),
        (refusal("moderation_blocked"), "refused"),
        (refuse(400, {"error": {"message": "prompt too long", "param": "prompt"}}), "request_refused"),
    ],
)
def test_what_is_wrong_with_one_prompt_is_a_failure_of_its_row_alone(trouble: Any, reason: str) -> None:
    with ImagesServer(always={PROMPTS[2]: trouble}) as server:
        images = client(server).generate(PROMPTS, SEEDS, 64, 64)
    failure = images[2]
    assert isinstance(failure, Failure)
    assert failure.reason == reason
    assert all(isinstance(image, np.ndarray) for place, image in enumerate(images) if place != 2)
    asked = [ask["prompt"] for ask in server.asked].count(PROMPTS[2])
    assert asked == (2 if reason in ("base64", "not_an_image", "image_truncated", "no_picture") else 1)


def test_a_refusal_is_kept_in_the_services_own_words() -> None:
    with ImagesServer([refusal(message="Your prompt shows <b>a person</b>.")]) as server:
        (failure,) = client(server).generate(["x"], [1], 64, 64)
    assert isinstance(failure, Failure)
    assert "Your prompt shows <b>a person</b>." in failure.detail


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_address_ends_the_work_at_once(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setenv("API_KEY", KEY)
    echo = {"error": {"message": f"Incorrect API key provided: {KEY}"}}
    with ImagesServer([refuse(status, echo)]) as server:
        images = client(server, key_env="API_KEY", concurrency=1).generate(PROMPTS, SEEDS, 64, 64)
    assert len(server.asked) == 1
    for one in images:
        assert isinstance(one, Stop)
        assert isinstance(one.error, ServiceRefused)
        assert f"HTTP {status}: Incorrect API key provided: ***" in str(one.error)


def test_a_request_that_is_wrong_for_every_prompt_ends_the_work() -> None:
    wrong = refuse(400, {"error": {"message": "Invalid size", "param": "size"}})
    with ImagesServer(always=dict.fromkeys(PROMPTS, wrong)) as server:
        images = client(server).generate(PROMPTS, SEEDS, 64, 64)
    assert {type(one) for one in images} == {Stop}


def test_a_service_that_is_down_is_tried_later() -> None:
    with ImagesServer(always=dict.fromkeys(PROMPTS, refuse(503))) as server:
        images = client(server, patience={"tries": 2}, concurrency=1).generate(PROMPTS, SEEDS, 64, 64)
    assert {type(one.error) for one in images if isinstance(one, Stop)} == {TryLater}
    assert len(server.asked) == 2


# --- images by URL ----------------------------------------------------------------------------------------------------


def by_url(path: str) -> Any:
    return lambda ask, _: {"data": [{"url": f"http://{SERVER['address']}{path}", "revised_prompt": "a red dog"}]}


SERVER: dict[str, str] = {}


def fetched(path: str, **changes: Any) -> tuple[Any, ImagesServer]:
    with ImagesServer(shape=by_url(path)) as server:
        SERVER["address"] = server.address
        (image,) = client(server, **changes).generate(["x"], [1], 64, 64)
    return image, server


def test_an_image_behind_a_url_is_fetched_without_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", KEY)
    with ImagesServer(shape=by_url("/picture/3.png")) as server:
        SERVER["address"] = server.address
        generator = client(server, key_env="API_KEY", allow_private=(server.address,))
        (image,) = generator.generate(["x"], [1], 64, 64)
    assert isinstance(image, Revised)
    assert image.caption == "a red dog"
    assert image.pixels.shape == (64, 64, 3)
    assert len(server.fetched) == 1
    assert not any(KEY in value for value in server.fetched[0].values())
    assert server.hits["/robots.txt"] == 0


def test_a_url_may_not_lead_into_the_own_network() -> None:
    image, server = fetched("/picture/3.png")
    assert isinstance(image, Failure)
    assert image.reason == "url_private"
    assert not server.fetched


@pytest.mark.parametrize(
    ("path", "kind", "reason", "asked"),
    [("/busy/1.png", np.ndarray, "", 2), ("/missing.jpg", Failure, "http_404", 1), ("/page.jpg", Failure, "", 2)],
)
def test_an_image_that_was_paid_for_is_asked_for_again(path: str, kind: Any, reason: str, asked: int) -> None:
    with ImagesServer(shape=lambda *_: {"data": [{"url": server.url(path)}]}) as server:
        (image,) = client(server, allow_private=(server.address,)).generate(["x"], [1], 64, 64)
    assert isinstance(image, kind)
    assert reason in getattr(image, "reason", "")
    assert server.hits[path] == asked or path == "/missing.jpg"


def test_an_image_whose_host_is_down_is_tried_again_later() -> None:
    with ImagesServer(shape=lambda *_: {"data": [{"url": "http://127.0.0.1:9/x?sig=secret"}]}) as server:
        options = {"allow_private": ("127.0.0.1:9",), "patience": {"tries": 2}}
        (image,) = client(server, **options).generate(["x"], [1], 64, 64)
    assert isinstance(image, Retry)
    assert "secret" not in image.detail


# --- money ------------------------------------------------------------------------------------------------------------


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
    def slow(*_: Any) -> Any:
        return asyncio.sleep(0.15)

    path, base = tmp_path / "paid.yaml", str(tmp_path / "store")
    with ImagesServer([slow] * 100) as server:
        path.write_text(yaml.safe_dump(recipe(server, concurrency=1).model_dump(mode="json", exclude_unset=True)))
        words = [sys.executable, "-m", "lightgen.cli", "run", str(path), "--store", base]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while len(server.asked) < 8 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
        process.wait()
        assert 8 <= len(server.asked) < 12
        version = images_of(open_or_create(base), server, concurrency=1)
    prompts = [ask["prompt"] for ask in server.asked]
    assert version.rows == len(set(prompts)) == 12
    assert len(prompts) - 12 <= 3  # of the batch under way


def test_a_wrong_key_is_one_error_and_nothing_is_bought_again_after_it_is_mended(
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


def test_plan_names_a_key_that_is_not_there_and_a_limit_without_a_price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("API_KEY", raising=False)
    config = ImagesApiConfig(
        url="http://images.example/v1",
        model="m",
        key_env="API_KEY",
        prices={"limit_usd": 3},  # type: ignore[arg-type]
    )
    found = {(one.where, one.weight) for one in problems_of(config)}
    assert found == {
        ("key_env", "stops"), ("prices.limit_usd", "stops"), ("url", "remark"), ("seed_key", "remark"),
    }  # fmt: skip
    with pytest.raises(ConfigError, match="API_KEY"):
        ImagesApiGenerator(config)


def test_where_the_service_is_and_what_it_costs_is_in_no_name() -> None:
    first = ImagesApiConfig(url="http://127.0.0.1:1/v1", model="m")
    other = first.model_copy(update={"url": "http://127.0.0.1:2/v1", "key_env": "K", "concurrency": 2})
    assert other.identity() == first.identity()
    for changes in ({"model": "n"}, {"sizes": ("512x512",)}, {"options": {"quality": "hd"}}, {"served": "2026"}):
        assert first.model_copy(update=changes).identity() != first.identity()


def test_it_is_rehearsed_without_key_and_price(tmp_path: Path) -> None:
    config = ImagesApiConfig(
        url="https://api.openai.com/v1", model="dall-e-3", key_env="NO_SUCH_KEY", sizes=DALLE_3
    ).rehearse(tmp_path)  # fmt: skip
    (image,) = ImagesApiGenerator(config).generate(["a red circle"], [1], 48, 64)
    assert isinstance(image, np.ndarray)
    assert image.shape == (48, 64, 3)
    shutil.rmtree(tmp_path)
