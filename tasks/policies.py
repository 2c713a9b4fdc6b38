"""How every stage runs under Prefect: retries, no result cache, and advice when it fails."""

from typing import Any, Final

from prefect import Task
from prefect.artifacts import MarkdownArtifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.logging.loggers import task_run_logger

from lightgen.errors import ConfigError, LightgenError, StoreAccess, StoreError, TrainingFailed, TryLater, WorkersLost
from tasks.reporting import forgiven

# Processes or machines were lost: the next try goes on from the newest checkpoint, or with the shards that are missing.
LOST = TrainingFailed | WorkersLost
AGAIN = "Then give the same command again: it goes on where this one stopped."


def transient(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """True for failures that waiting may end: the network, a slow disk, a lost machine. Never a mistake."""
    error = state.result(raise_on_failure=False)
    if isinstance(error, StoreAccess):
        error = error.__cause__
    if isinstance(error, LOST | TryLater):
        return True
    if isinstance(error, LightgenError):
        return False
    return isinstance(error, ConnectionError | TimeoutError | BlockingIOError | InterruptedError)


def advise(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> None:
    """Say what to do about a failed stage: in the log, and on a page of the run."""
    error = state.result(raise_on_failure=False)
    advice = advice_on(error)
    task_run_logger(task_run, task).error("stage %s failed: %s\nWhat to do: %s", task.name, error, advice)
    with forgiven("the page what-to-do"):
        MarkdownArtifact(
            key="what-to-do",
            description=f"{task_run.name} failed: {advice}",
            markdown=f"## {task_run.name} failed\n\n> {type(error).__name__}: {error}\n\n**What to do:** {advice}",
            task_run_id=task_run.id,
            flow_run_id=task_run.flow_run_id,
        ).create()


def advice_on(error: object) -> str:
    """What the user can do about a failure; that the same command goes on is said only where nothing must change."""
    if isinstance(error, ConfigError):
        return "correct the recipe or the override that it names, then start a new run"
    if isinstance(error, LOST):
        return f"look for the cause in the lines above. {AGAIN}"
    if isinstance(error, TryLater):
        return f"nothing is wrong with the input: wait until what it names is back. {AGAIN}"
    if isinstance(error, StoreError):
        return f"repair the store as said above (`lightgen verify --all` shows what is damaged). {AGAIN}"
    if isinstance(error, LightgenError):
        return "correct what the message names, then start a new run: the other stages are found finished"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "use a smaller batch (overrides, for example), or give the same command on a larger machine"
    if isinstance(error, ConnectionError | TimeoutError):
        return f"the network or a server did not answer, even on the third try; check it. {AGAIN}"
    return "this is a fault of the program, not of your data: the traceback above says where. Nothing sealed is lost"


# Prefect's own cache and stored results stay off: what is done is read from the store, so a retry, a re-run, the
# command line and another machine behave alike.
POLICY: Final[dict[str, Any]] = {
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "retries": 2,
    "retry_delay_seconds": [5, 30],
    "retry_condition_fn": transient,
    "on_failure": [advise],
}
