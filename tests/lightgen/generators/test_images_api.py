"""Generator `images_api` and a real server on loopback: what is asked for, in which size, and what is refused early."""

import base64
import shutil
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from lightgen.config import problems_of
from lightgen.errors import ConfigError
from lightgen.generators.images_api import ImagesApiConfig, ImagesApiGenerator
from lightgen.http import Timing
from lightgen.stages.generate import GenerateConfig
from tests.lightgen.generators.images_client import KEY, PROMPTS, SEEDS, client, expected, settings
from tests.servers.chat import together
from tests.servers.images import ImagesServer, data


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
    with ImagesServer([together(3)] * 6) as server:  # type: ignore[list-item]
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


# --- settings ---------------------------------------------------------------------------------------------------------
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
