"""Which images are kept, by rules on their scores and by what repeats what: seconds of arithmetic on narrow columns."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int64

from lightgen.decisions import best_of
from lightgen.decisions.best_of import Best
from lightgen.decisions.columns import UNSCORED, column, joined, texts, why_unscored
from lightgen.decisions.repeats import Repeats, explained, first_kept
from lightgen.decisions.rules import KEPT, Rule, Yield, apply_rules, yield_table


@dataclass(frozen=True)
class Decision:
    """What becomes of every row, in the order of the table.

    kept: whether it passes
    reason, detail: why not; "" where it is kept
    twin: the row that is kept in the place of a repeat, else -1
    yields: rows before and after each rule, then each kind of repeats, then each choice of the best
    """

    kept: Bool[np.ndarray, " n"]
    reason: pa.LargeStringArray
    detail: pa.LargeStringArray
    twin: Int64[np.ndarray, " n"]
    yields: tuple[Yield, ...]


def decide(columns: pa.Table, rules: Sequence[Rule], repeats: Sequence[Repeats], best: Sequence[Best] = ()) -> Decision:
    """Faults first, by the rules in order; then repeats, equal ones before near ones; then the best of what is left.

    `columns` holds one row an image: `id`, all columns that are named, and `unscored` of each scorer. The order of the
    rows changes no verdict. An image without a hash that repeats are found by, or without a value that the best is
    chosen by, is refused as one without a score.
    Memory: the columns, and about 60 bytes and two texts a row; time: see `apply_rules` and `first_kept`.
    """
    verdicts, nobody = apply_rules(columns, rules), np.full(columns.num_rows, -1, np.int64)
    yields = tuple(yield_table(rules, verdicts))
    decision = Decision(verdicts.rule == KEPT, verdicts.reason, verdicts.detail, nobody, yields)
    for rule in repeats:
        decision = _with_hash(columns, rule, decision)
    order = pc.sort_indices(columns["id"].combine_chunks()).to_numpy() if repeats or best else nobody
    for rule in sorted(repeats, key=lambda rule: rule.bits > 0):
        decision = _once(columns, rule, order[decision.kept[order]], decision)
    for rule in best:
        decision = _with_value(columns, rule, decision)
        decision = _best(columns, rule, order[decision.kept[order]], decision)
    return _resolved(columns, decision)


def _with_hash(columns: pa.Table, rule: Repeats, given: Decision) -> Decision:
    """The decision with images that have no hash refused; a step of its own where there are any."""
    missing = given.kept & column(columns, rule.column).is_null().to_numpy(zero_copy_only=False)
    if not missing.any():
        return given
    why = why_unscored(columns.filter(pa.array(missing)), rule.column)
    return _refuse(given, missing, why, texts(len(why), f"{rule.column} is missing"), UNSCORED)


def _once(columns: pa.Table, rule: Repeats, alive: Int64[np.ndarray, " k"], given: Decision) -> Decision:
    """The decision with repeats refused among what it keeps: `alive`, in order of id."""
    first = first_kept(columns, rule, alive)
    details = explained(columns, rule, first)
    left = _refuse(given, first >= 0, texts(len(details), rule.reason), details, rule.reason)
    return replace(left, twin=np.maximum(left.twin, first))


def _with_value(columns: pa.Table, rule: Best, given: Decision) -> Decision:
    """The decision with images refused that have no value to be compared by; a step of its own where there are any."""
    missing = given.kept & ~best_of.scored(columns, rule)
    if not missing.any():
        return given
    why = why_unscored(columns.filter(pa.array(missing)), rule.column)
    return _refuse(given, missing, why, texts(len(why), f"{rule.column} is missing"), UNSCORED)


def _best(columns: pa.Table, rule: Best, alive: Int64[np.ndarray, " k"], given: Decision) -> Decision:
    """The decision with all refused but the best of each group of `alive`, which is in order of id."""
    found = best_of.contest(columns, rule, alive)
    details = best_of.explained(columns, rule, found)
    return _refuse(given, found.lost, texts(len(details), rule.reason), details, rule.reason)


def _resolved(columns: pa.Table, given: Decision) -> Decision:
    """The decision with twins that are kept: an equal image may repeat one that is near to a third."""
    twin = given.twin
    while (refused := (twin >= 0) & (twin[twin] >= 0)).any():
        twin = np.where(refused, twin[twin], twin)
    moved = pa.array(twin != given.twin)
    ids = columns["id"].combine_chunks().take(pa.array(twin).filter(moved))
    said = joined(given.detail.filter(moved), "in whose place", ids, "is kept")
    return replace(given, twin=twin, detail=pc.replace_with_mask(given.detail, moved, said))


def _refuse(given: Decision, mask: Bool[np.ndarray, " n"], reasons: pa.Array, details: pa.Array, step: str) -> Decision:
    """The decision with the rows of `mask` refused, as one more step."""
    rows, kept = pa.array(mask), given.kept & ~mask
    return replace(
        given,
        kept=kept,
        reason=pc.replace_with_mask(given.reason, rows, reasons.cast(pa.large_string())),
        detail=pc.replace_with_mask(given.detail, rows, details),
        yields=(*given.yields, Yield(step, int(given.kept.sum()), int(kept.sum()))),
    )
