"""The closed family of engines, chosen by the part `run` of a recipe."""

from collections.abc import Iterator
from contextlib import contextmanager

from lightgen.engines.processes import Processes
from lightgen.engines.serial import Serial
from lightgen.work import Engine, RunConfig


@contextmanager
def open_engine(run: RunConfig) -> Iterator[Engine]:
    """The engine of a run, or of one stage; whatever it started ends with the context."""
    if run.engine == "serial":
        yield Serial()
    elif run.engine == "processes":
        with Processes(run) as processes:
            yield processes
    else:
        from lightgen.engines.ray import Ray

        with Ray(run) as ray:
            yield ray
