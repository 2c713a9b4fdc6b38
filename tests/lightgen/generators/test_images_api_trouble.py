"""Generator `images_api` against a real server that misbehaves; nothing of the client is replaced."""

import base64
from typing import Any

import numpy as np
import pytest

from lightgen.errors import ServiceRefused, TryLater
from lightgen.generators.base import Failure, Retry, Revised, Stop
from lightgen.generators.images_api import ImagesApiGenerator
from lightgen.http import Timing
from tests.lightgen.generators.images_client import KEY, PROMPTS, SEEDS, client, expected, settings
from tests.servers.chat import cut, drip, hang, refuse
from tests.servers.images import ImagesServer, data, picture, refusal, text


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param([refuse(429, retry_after="1")], id="429"),
        pytest.param([refuse(500), refuse(503)], id="500"),
        pytest.param([cut], id="cut"),
        pytest.param([text("<html>")], id="no JSON"),
        pytest.param([text("[]")], id="no object"),
        pytest.param([data(b64_json="%%%")], id="no base64"),
        pytest.param([data(b64_json=base64.b64encode(b"GIF89a").decode())], id="no image"),
        pytest.param([data(revised_prompt="x")], id="no picture"),
    ],
)
def test_trouble_that_passes_changes_nothing(trouble: list[Any]) -> None:
    with ImagesServer(trouble) as server:
        images = client(server, concurrency=1).generate(PROMPTS[:2], [1, 2], 64, 64)
    for prompt, image in zip(PROMPTS, images, strict=False):
        assert np.array_equal(image, expected(prompt))  # type: ignore[arg-type]
    assert len(server.asked) == 2 + len(trouble)


def test_silence_that_passes_changes_nothing() -> None:
    """On a busy machine other requests may pass the time-out too: so the server may be asked more than twice."""
    with ImagesServer([hang(600)]) as server:
        patience = {"timeout_s": 1.0, "tries": 99}
        (image,) = client(server, concurrency=1, patience=patience).generate(PROMPTS[:1], [1], 64, 64)
    assert np.array_equal(image, expected(PROMPTS[0]))  # type: ignore[arg-type]
    assert len(server.asked) >= 2


def test_an_answer_byte_by_byte_ends_with_the_deadline() -> None:
    with ImagesServer(always={PROMPTS[0]: drip}) as server:
        (stopped,) = client(server, concurrency=1, patience={"deadline_s": 1.0}).generate(PROMPTS[:1], [1], 64, 64)
    assert isinstance(stopped, Stop)
    assert isinstance(stopped.error, TryLater)


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
