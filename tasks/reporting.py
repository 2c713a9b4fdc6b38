"""What a run says in Prefect: one message for one error, in characters that can be sent; and silence stops nothing."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prefect.exceptions import PrefectException

from lightgen.errors import LightgenError, escaped

log = logging.getLogger(__name__)

LOGGERS = ("lightgen", "tasks")  # those of prefect.toml: Prefect sends their lines to the run, but leaves their level
RUNS = ("prefect.task_runs", "prefect.flow_runs")
LONGEST_LINE = 100_000  # characters; Prefect refuses a megabyte


@contextmanager
def forgiven(what: str) -> Iterator[None]:
    """Go on without `what`, which is for people to look at, where Prefect's server cannot take it now."""
    try:
        yield
    except (httpx.HTTPError, PrefectException) as error:
        log.warning("%s did not reach the Prefect server (the run goes on): %s", what, error)


@contextmanager
def sendable() -> Iterator[None]:
    """Let no exception out whose text Prefect could not send: the run would crash in place of failing.

    Such an error keeps its traceback and the name of its type.
    """
    try:
        yield
    except Exception as error:
        text = f"{type(error).__name__}: {escaped(error)}"
        if escaped(error) == str(error):
            raise
        raise RuntimeError(text).with_traceback(error.__traceback__) from None


class PlainLines(logging.Filter):
    """Makes log lines plain, and drops those of Prefect that say again what `advise` and the state of the run say.

    With them goes the traceback of a user's mistake: its message names what to correct.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """False for a line to drop."""
        record.msg, record.args = escaped(record.getMessage(), LONGEST_LINE), ()
        if record.name == "prefect.task_runs" and record.msg.startswith("Finished in state Failed("):
            return False
        if record.exc_info:
            if isinstance(record.exc_info[1], LightgenError) and record.name in RUNS:
                return False
            record.exc_text = escaped(logging.Formatter().formatException(record.exc_info), LONGEST_LINE)
        return True


PLAIN_LINES = PlainLines()


def plain_logs() -> None:
    """Send the library's log lines to the run, and make all lines of a run plain. May be called again."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)
    for handler in (*logging.getLogger().handlers, *logging.getLogger("prefect.extra").handlers):
        handler.addFilter(PLAIN_LINES)
