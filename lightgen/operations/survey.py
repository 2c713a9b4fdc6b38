"""Which steps of a recipe a store holds already. Makes and writes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lightgen.errors import LightgenError, NotMade
from lightgen.operations.measured import Rate, rate_so_far
from lightgen.operations.stages import make
from lightgen.operations.step import Step, inputs
from lightgen.storage.receipts import read_receipts
from lightgen.work import Context
from schemas.ref import ArtifactRef

State = Literal["sealed", "missing", "unknown"]


@dataclass(frozen=True)
class Found:
    """A step in a store.

    state: `unknown` below a step that is not made, on whose content its name depends
    detail: in words, what is there or what it waits for
    units: what it works on in all, where that is known
    rate: of its finished shards, where there are some
    trouble: why it cannot even be named
    """

    step: Step
    state: State
    detail: str
    ref: ArtifactRef | None = None
    units: int = 0
    rate: Rate | None = None
    trouble: LightgenError | None = None


def survey(steps: Sequence[Step], context: Context) -> list[Found]:
    """Every step, in order; `context` only finds."""
    assert context.find_only, "a survey makes nothing"
    found: dict[str, Found] = {}
    for step in steps:
        found[step.name] = _look(step, found, replace(context, role=step.role))
    return list(found.values())


def _look(step: Step, found: dict[str, Found], context: Context) -> Found:
    waits = [name for name in inputs(step) if found[name].ref is None]
    if waits:
        return Found(step, "unknown", f"until {waits[0]} is made")
    refs = [ref for name in inputs(step) if (ref := found[name].ref) is not None]
    try:
        ref = make(step, refs, context)
    except NotMade as error:
        return _missing(step, error, context)
    except LightgenError as error:
        return Found(step, "unknown", "cannot be named", trouble=error)
    return Found(step, "sealed", str(ref), ref)


def _missing(step: Step, error: NotMade, context: Context) -> Found:
    receipts = list(read_receipts(context.store, error.plan).values()) if error.done else []
    rate = rate_so_far(context.store, error.plan, receipts)
    detail = f"{error.done} of {error.plan.n_shards} shards" if error.done else ""
    return Found(step, "missing", detail, units=error.units, rate=rate)
