"""What is retried, and what a failed stage says."""

import asyncio

import pytest
from prefect.states import exception_to_failed_state

from lightgen.errors import ConfigError, InputCorrupt, StoreAccess, StoreCorrupt, TrainingFailed, TryLater, WorkersLost
from tasks.policies import AGAIN, advice_on, transient


def _refused() -> StoreAccess:
    error = StoreAccess("the bucket did not answer")
    error.__cause__ = TimeoutError()
    return error


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (_refused(), True),
        (TrainingFailed("a process died"), True),
        (WorkersLost("all worker processes have ended"), True),
        (TryLater("the service is busy"), True),
        (StoreAccess("wrong key"), False),
        (ConfigError("no such size"), False),
        (StoreCorrupt("a digest differs"), False),
        (ValueError("a fault of the program"), False),
        (FileNotFoundError(), False),
        (MemoryError(), False),
    ],
)
def test_only_what_waiting_may_mend_is_retried(error, again):
    state = asyncio.run(exception_to_failed_state(error))
    assert transient(None, None, state) is again


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConfigError("x"), "recipe"),
        (TrainingFailed("x"), "lines above"),
        (WorkersLost("x"), "lines above"),
        (TryLater("x"), "wait"),
        (StoreCorrupt("x"), "lightgen verify"),
        (InputCorrupt("x"), "message names"),
        (MemoryError(), "smaller batch"),
        (TimeoutError(), "network"),
        (KeyError("x"), "fault of the program"),
    ],
)
def test_advice_says_what_to_do(error, said):
    assert said in advice_on(error)


@pytest.mark.parametrize(
    ("error", "goes_on"),
    [
        (StoreCorrupt("x"), True),
        (TrainingFailed("x"), True),
        (WorkersLost("x"), True),
        (TryLater("x"), True),
        (TimeoutError(), True),
        (ConfigError("x"), False),
        (InputCorrupt("x"), False),
        (KeyError("x"), False),
    ],
)
def test_the_same_command_goes_on_only_where_nothing_must_change(error, goes_on):
    assert (AGAIN in advice_on(error)) is goes_on
