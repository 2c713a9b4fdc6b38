"""What leaves a stage can be sent to Prefect; a server that is away stops nothing; one mistake is told once."""

import logging
import traceback

import pytest
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from lightgen.engines.serial import Serial
from lightgen.errors import ConfigError, StoreAccess
from lightgen.operations.step import Step
from lightgen.storage.store import open_store
from lightgen.work import Context, RunConfig
from tasks.reporting import PLAIN_LINES, forgiven, sendable
from tasks.run import Place, run_step
from tests.worked_version import Settings, build, plan_of, rows

ODD = "caf\udce9 \x1b[31m \0"


@pytest.fixture
def no_server(closed_port):
    nobody = {PREFECT_API_URL: f"http://127.0.0.1:{closed_port}/api", PREFECT_CLIENT_MAX_RETRIES: 0}
    with temporary_settings(nobody):
        yield


def make(step: Step, refs: list, context: Context):
    return build(context.store, plan_of(kind="sketches"), rows)


def run(store, make):
    """One step of no recipe under Prefect, in the store at `store`."""
    return run_step(Step("source-train", "source", Settings()), [], Place(str(store), 0, RunConfig(), Serial()), make)


@pytest.mark.filterwarnings("ignore:Artifact creation outside")
def test_a_sealed_stage_does_not_fail_because_the_server_is_away(no_server, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        ref = run(tmp_path, make)
    assert open_store(str(tmp_path)).open(ref).rows == 12
    assert "figures and page of source-train did not reach the Prefect server" in caplog.text
    assert f"source-train: store {tmp_path}" in caplog.text


def test_only_failures_of_prefect_are_forgiven():
    with forgiven("a page"):
        raise ObjectNotFound(KeyError("gone"))
    with pytest.raises(ZeroDivisionError), forgiven("a page"):
        _ = 1 / 0


def test_a_foreign_error_that_cannot_be_sent_is_spelled_out_and_keeps_its_traceback(tmp_path):
    def fail(step, refs, context):
        raise ValueError(ODD)

    with pytest.raises(RuntimeError) as caught:
        run(tmp_path, fail)
    assert str(caught.value) == r"ValueError: caf\udce9 \x1b[31m \x00"
    told = "".join(traceback.format_exception(caught.value))
    assert "raise ValueError(ODD)" in told
    told.encode("utf-8")


@pytest.mark.parametrize(
    "error", [ValueError("plain"), ConfigError(ODD), FileNotFoundError(2, "no", ODD), KeyError(ODD)]
)
def test_an_error_that_can_be_sent_is_left_as_it_is(error):
    with pytest.raises(type(error)) as caught, sendable():
        raise error
    assert caught.value is error


def record(name, error=None, message="line %s", given=ODD):
    exc_info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord(name, logging.ERROR, __file__, 1, message, (given,), exc_info)


def test_log_lines_and_tracebacks_can_be_sent():
    line = record("lightgen.stages.source", ValueError(ODD))
    assert PLAIN_LINES.filter(line)
    said = logging.Formatter().format(line)
    said.encode("utf-8")
    assert said.startswith(r"line caf\udce9 \x1b[31m \x00")
    assert r"ValueError: caf\udce9" in said


@pytest.mark.parametrize("name", ["prefect.task_runs", "prefect.flow_runs"])
def test_a_mistake_of_the_user_has_no_traceback_and_a_fault_of_the_program_has(name):
    assert not PLAIN_LINES.filter(record(name, StoreAccess("wrong key")))
    assert PLAIN_LINES.filter(record(name, ValueError("x")))
    assert PLAIN_LINES.filter(record(name))


def test_the_final_state_is_told_by_the_run_and_not_by_each_of_its_tasks():
    state = {"message": "Finished in state Failed(%r)", "given": "no such file"}
    assert not PLAIN_LINES.filter(record("prefect.task_runs", **state))
    assert PLAIN_LINES.filter(record("prefect.flow_runs", **state))
