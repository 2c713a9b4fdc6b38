"""A real OpenAI-compatible server on loopback that answers by arithmetic on the picture, and misbehaves."""

import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from lightgen.errors import ConfigError, ServiceRefused
from lightgen.http import Timing
from lightgen.vlm.base import Asked, Draw, YesNo
from lightgen.vlm.qwen import TransformersVlmConfig
from lightgen.vlm.server import ServerVlm, ServerVlmConfig, read_yes_no, within
from schemas.scores import Unscored
from tests.servers.chat import ChatServer, cut, hang, likeliest, refuse, seen, together

GREYS = (0, 51, 102, 153, 204, 255)


def grey(level: int, height: int = 40, width: int = 60) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def questions(text: str = "Is it bright?") -> list[Asked]:
    return [Asked((grey(level),), text, "look") for level in GREYS]


def client(server: ChatServer, **settings: Any) -> ServerVlm:
    settings = {"concurrency": 4, "min_pixels": 1} | settings
    return ServerVlm(ServerVlmConfig(url=server.url, model="m", **settings), Timing(sleep=lambda _: None))


def share(found: YesNo | Unscored) -> float:
    assert isinstance(found, YesNo), found
    return math.exp(found.yes) / (math.exp(found.yes) + math.exp(found.no))


def test_the_spellings_of_an_answer_are_added_up() -> None:
    with ChatServer() as server:
        found = client(server).yes_no(questions())
        denied = client(server).yes_no(questions("Not bright?"))
    for level, one, other in zip(GREYS[1:5], found[1:5], denied[1:5], strict=True):
        assert isinstance(one, YesNo)
        assert math.exp(one.yes) == pytest.approx(0.9 * level / 255)
        assert math.exp(one.no) == pytest.approx(0.9 * (1 - level / 255))
        assert share(other) == pytest.approx(1 - share(one))


def test_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-1")
    with ChatServer() as server:
        client(server, key_env="JUDGE_KEY", max_pixels=600, top_logprobs=7).yes_no(
            [Asked((grey(9), grey(99)), 'ä "dog"', "look")]
        )
    probe, ask = server.asked
    assert probe["logprobs"] is True
    assert (ask["temperature"], ask["logprobs"], ask["top_logprobs"], ask["model"]) == (0, True, 7, "m")
    assert ask["messages"][0] == {"role": "system", "content": "look"}
    text, pictures = seen(ask)
    assert text == 'ä "dog"'
    assert [one.shape for one in pictures] == [(20, 30, 3)] * 2
    assert [int(one[0, 0, 0]) for one in pictures] == [9, 99]
    assert ask["messages"][1]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
    assert server.headers[1]["Authorization"] == "Bearer sk-1"


def test_several_questions_are_under_way_at_once_and_come_back_in_order() -> None:
    with ChatServer([lambda *_: None, *[together(4)] * 12]) as server:  # the first question is asked alone
        found = client(server, concurrency=4).yes_no(questions() * 2)
    sure = [round(share(one), 2) for one in found if isinstance(one, YesNo) and not one.bound]
    assert sure == [0.2, 0.4, 0.6, 0.8] * 2
    assert server.most_at_once == 4


# --- answers that are less than they should be ------------------------------------------------------------------------


def test_an_answer_that_is_not_among_the_likeliest_gets_the_most_that_it_can_be() -> None:
    top = [{"token": "Yes", "logprob": math.log(0.7), "bytes": None}, {"token": "It", "logprob": math.log(0.2)}]
    found = read_yes_no(told([{**top[0], "top_logprobs": top}]))
    assert found == YesNo(pytest.approx(math.log(0.7)), pytest.approx(math.log(0.1)), "no")
    sure = [{"token": "no", "logprob": -0.01}, {"token": " No", "logprob": -5.0}, {"token": "x", "logprob": -9999.0}]
    found = read_yes_no(told([{**sure[0], "top_logprobs": sure}]))
    assert isinstance(found, YesNo)
    assert (found.bound, found.yes) == ("yes", pytest.approx(math.log(1 - math.exp(-0.01) - math.exp(-5.0))))


def told(content: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"content": None}, "logprobs": {"content": content}}]}


def test_fewer_tokens_than_asked_for_are_enough_and_no_text_is_needed() -> None:
    def few(answer: dict[str, Any]) -> dict[str, Any]:
        choice = answer["choices"][0]
        choice["message"]["content"] = None
        entry = choice["logprobs"]["content"][0]
        entry["top_logprobs"] = entry["top_logprobs"][:5]
        return answer

    with ChatServer(shape=few) as server:
        assert share(client(server).yes_no(questions())[2]) == pytest.approx(0.4, abs=0.03)


def test_tokens_by_number_are_read_by_their_bytes_or_refused() -> None:
    def numbered(keep: bool) -> Any:
        def shape(answer: dict[str, Any]) -> dict[str, Any]:
            for entry in answer["choices"][0]["logprobs"]["content"]:
                for one in [entry, *entry["top_logprobs"]]:
                    one["token"] = f"token_id:{int.from_bytes(one['bytes'])}"
                    one["bytes"] = one["bytes"] if keep else None
            return answer

        return shape

    with ChatServer(shape=numbered(True)) as server:
        assert share(client(server).yes_no(questions())[3]) == pytest.approx(0.6)
    with ChatServer(shape=numbered(False)) as server:
        assert {one.reason for one in client(server).yes_no(questions())} == {"vlm_token_ids"}


def test_blank_tokens_before_the_answer_are_passed_over() -> None:
    answer = likeliest(0.8)
    blank = {"token": "\n", "logprob": -0.1, "bytes": [10], "top_logprobs": [{"token": "\n", "logprob": -0.1}]}
    assert share(read_yes_no(told([blank, {**answer[0], "top_logprobs": answer}]))) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"choices": []}, "vlm_no_logprobs"),
        ({"choices": [{"message": {"content": "Yes"}, "logprobs": None}]}, "vlm_no_logprobs"),
        ({"choices": [{"logprobs": {"content": None}}]}, "vlm_no_logprobs"),
        (told([]), "vlm_no_logprobs"),
        (told([{"token": "Yes", "logprob": "x"}]), "vlm_no_logprobs"),
        (told([{"token": "Yes", "logprob": float("nan")}]), "vlm_no_logprobs"),
        (told([{"token": "A", "logprob": -0.1, "top_logprobs": None}]), "vlm_no_answer"),
        ({}, "vlm_no_logprobs"),
    ],
)
def test_an_answer_that_says_nothing_is_a_row_with_its_reason(answer: dict[str, Any], reason: str) -> None:
    found = read_yes_no(answer)
    assert isinstance(found, Unscored)
    assert found.reason == reason


# --- troubles ---------------------------------------------------------------------------------------------------------


def test_trouble_that_passes_changes_nothing() -> None:
    with ChatServer() as server:
        wanted = client(server).yes_no(questions())
    page = "<html><h1>Bad gateway</h1></html>"
    passing = [
        refuse(429, retry_after="0.01"), refuse(429, retry_after_ms="5"), refuse(500), cut, refuse(502, page),
        refuse(200, page), refuse(409), refuse(408),
    ]  # fmt: skip
    with ChatServer(list(passing)) as server:
        assert client(server, patience={"tries": 12}).yes_no(questions()) == wanted
    assert len(server.asked) == len(questions()) + 1 + len(passing)
    with ChatServer([hang(600)]) as server:
        assert client(server, patience={"tries": 99, "timeout_s": 1.0}).yes_no(questions()) == wanted
    assert len(server.asked) > len(questions()) + 1, "by one, and more where a busy machine answers late"


def test_a_question_at_fault_costs_its_own_row_alone() -> None:
    with ChatServer() as server:
        model = client(server, concurrency=1)
        model.yes_no([])
        assert server.asked == []
        _ = model._tells_logprobs
        server.trouble = [lambda *_: None, refuse(400, {"error": {"message": "the image is not allowed"}})]
        found = model.yes_no(questions())
    assert isinstance(found[1], Unscored)
    assert (found[1].reason, "not allowed" in found[1].detail) == ("vlm_refused", True)
    assert all(isinstance(one, YesNo) for one in [found[0], *found[2:]])


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ([refuse(503)] * 99, "try_later"),
        ([refuse(401)], "service_refused"),
        ([refuse(429, {"error": {"message": "spent", "code": "insufficient_quota"}})], "service_refused"),
    ],
)
def test_trouble_that_does_not_pass_keeps_what_was_answered_and_asks_no_more(trouble: list, reason: str) -> None:
    with ChatServer() as server:
        model = client(server, concurrency=1, patience={"tries": 2})
        _ = model._tells_logprobs
        server.trouble = [lambda *_: None, lambda *_: None, *trouble]
        found = model.yes_no(questions())
        asked = len(server.asked)
    assert [isinstance(one, YesNo) for one in found] == [True, True, False, False, False, False]
    assert {one.reason for one in found if isinstance(one, Unscored)} == {reason}
    assert asked <= 1 + 2 + 2


def test_a_spent_budget_keeps_what_was_paid() -> None:
    prices = {"usd_per_million_in": 1000, "usd_per_million_out": 0, "limit_usd": 0.45}
    with ChatServer() as server:
        found = client(server, concurrency=1, prices=prices).yes_no(questions())
        assert len(server.asked) == 4
    assert [getattr(one, "reason", "") for one in found] == ["", "", "", *["spend_limit"] * 3]


def test_a_server_that_tells_no_logprobs_is_refused_by_its_first_question() -> None:
    def silent(answer: dict[str, Any]) -> dict[str, Any]:
        answer["choices"][0].pop("logprobs", None)
        return answer

    with ChatServer(shape=silent) as server:
        with pytest.raises(ServiceRefused, match="answers without logprobs; take mode: json"):
            client(server).yes_no(questions())
        assert len(server.asked) == 1
        assert client(server).write(questions(), 9) == ["a text"] * 6
    refusal = refuse(400, {"detail": "top_logprobs: at most 5"})
    with ChatServer([refusal]) as server, pytest.raises(ServiceRefused, match="at most 5"):
        client(server).yes_no(questions())


def test_texts_are_greedy_or_drawn_from_seeds_and_no_text_is_a_reason() -> None:
    def write(text: str, pictures: list[np.ndarray], ask: dict[str, Any]) -> str | None:
        return None if pictures[0].mean() < 50 else f"{ask['temperature']} {ask.get('seed')}"

    with ChatServer(write=write) as server:
        model = client(server)
        greedy = model.write(questions(), 9)
        drawn = model.write(questions(), 9, Draw(0.7, tuple(range(6))))
    assert greedy == [Unscored("vlm_no_text", "an answer without text"), *["0.0 None"] * 5]
    assert drawn[1:] == [f"0.7 {seed}" for seed in range(1, 6)]


# --- settings ---------------------------------------------------------------------------------------------------------


def test_where_the_server_is_and_how_it_is_asked_is_in_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-1")
    plain = ServerVlmConfig(url="http://127.0.0.1:1/v1", model="m")
    other = ServerVlmConfig(
        url="https://host/v1/", model="m", key_env="JUDGE_KEY", concurrency=3, patience={"tries": 2},
        prices={"limit_usd": 3, "usd_per_million_in": 1}, limit_key="max_tokens",
    )  # fmt: skip
    assert plain.identity() == other.identity()
    assert "sk-1" not in repr(other) + str(other.identity()) + other.model_dump_json()
    assert plain.identity() != ServerVlmConfig(url="http://127.0.0.1:1/v1", model="m", served="2026-01").identity()
    assert list(other.problems()) == []
    lax = other.model_copy(update={"key_env": "NO_SUCH_KEY", "prices": other.prices.model_copy(
        update={"usd_per_million_in": 0})})  # fmt: skip
    assert [problem.where for problem in lax.problems()] == ["key_env", "prices.limit_usd"]
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        ServerVlm(lax)
    with pytest.raises(ValidationError, match="no user, password or query"):
        ServerVlmConfig(url="http://a:b@host/v1", model="m")


def test_a_rehearsal_asks_no_server(tmp_path) -> None:
    config = ServerVlmConfig(url="http://127.0.0.1:1/v1", model="m")
    assert isinstance(config.rehearse(tmp_path), TransformersVlmConfig)


@pytest.mark.parametrize("size", [(40, 60), (400, 10), (3, 3), (1000, 1000)])
def test_pictures_are_brought_within_bounds_in_the_same_shape(size: tuple[int, int]) -> None:
    bounded = within(grey(7, *size), 500, 5000)
    height, width = bounded.shape[:2]
    assert 500 <= height * width <= 5000
    assert height / width == pytest.approx(size[0] / size[1], rel=0.3)
