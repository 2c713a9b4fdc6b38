"""Decisions over scores against a plain loop, in any order of rows: faults, then equal images, then near ones."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lightgen.decisions.filtering import Decision, decide
from lightgen.decisions.repeats import Repeats
from lightgen.decisions.rules import Rule, Yield
from lightgen.errors import ConfigError

SIZE = Rule(column="width", least=32, reason="too_small")
SAME = Repeats(column="image_sha256")
NEAR = Repeats(column="phash", bits=4, group="caption")


def table(rows: list[tuple[str, str, str, int | None, int | None]]) -> pa.Table:
    """Scores of (id, caption, sha256, hash, width)."""
    ids, captions, digests, hashes, widths = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    return pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "caption": pa.array(captions, pa.string()),
            "image_sha256": pa.array(digests, pa.string()),
            "phash": pa.array(hashes, pa.uint64()),
            "width": pa.array(widths, pa.int32()),
            "unscored": pa.array(["" if value is not None else "truncated" for value in widths], pa.string()),
        }
    )


def by_hand(rows: list, bits: int) -> dict[str, tuple[str, str]]:
    """id -> (reason, whom it repeats), one row after the other in order of ids."""
    out: dict[str, tuple[str, str]] = {}
    for key, _, _, value, width in rows:
        if width is None or width < 32:
            out[key] = ("too_small" if width is not None else "truncated", "")
        elif value is None:
            out[key] = ("unscored", "")
    kept: list = []
    for row in sorted(rows):
        if row[0] not in out:
            twin = next((other for other in kept if other[2] == row[2]), None)
            out |= {row[0]: ("duplicate_exact", twin[0])} if twin else {}
            kept += [] if twin else [row]
    near: list = []
    for row in kept:
        twin = next((k for k in near if k[1] == row[1] and (k[3] ^ row[3]).bit_count() <= bits), None)
        out[row[0]] = ("duplicate_near", twin[0]) if twin else ("", "")
        near += [] if twin else [row]
    return out


ROWS = st.lists(
    st.tuples(
        st.integers(0, 99).map(str),
        st.sampled_from(["a dog", "a cat"]),
        st.sampled_from("abcdef"),
        st.one_of(st.none(), st.integers(0, 300), st.integers(0, 2**64 - 1)),
        st.sampled_from([None, 16, 64, 64, 64]),
    ),
    max_size=40,
    unique_by=lambda row: row[0],
)


@settings(max_examples=200)
@given(rows=ROWS, bits=st.sampled_from([1, 4, 20]), order=st.randoms(use_true_random=False))
def test_a_decision_is_the_plain_loop_in_any_order_of_rows(rows: list, bits: int, order) -> None:
    order.shuffle(rows)
    near = NEAR.model_copy(update={"bits": bits, "reason": "duplicate_near"})
    decision = decide(table(rows), [SIZE], [near, SAME])
    expected = by_hand(rows, bits)
    reasons, details = decision.reason.to_pylist(), decision.detail.to_pylist()
    assert reasons == [expected[row[0]][0] for row in rows]
    assert decision.kept.tolist() == [not reason for reason in reasons] == [not detail for detail in details]
    for row, detail, other in zip(rows, details, decision.twin.tolist(), strict=True):
        twin = expected[row[0]][1]
        assert not twin or f" {twin} " in f"{detail} "
        end = expected[twin][1] or twin if twin else twin
        assert end == (rows[other][0] if other >= 0 else "")
        assert other < 0 or decision.kept[other]
        assert (" in whose place " in detail) == (end != twin)
    steps = [step.step for step in decision.yields if step.step != "unscored"]
    assert steps == ["too_small", "duplicate_exact", "duplicate_near"]
    counts = [len(rows), *(step.after for step in decision.yields)]
    assert [step.before for step in decision.yields] == counts[:-1]
    assert counts[-1] == decision.kept.sum()


def test_faults_come_first_then_equal_bytes_then_near_hashes() -> None:
    rows = [
        ("a", "a dog", "x", 0, 16),  # too small: what repeats it may stay
        ("b", "a dog", "x", 0, 64),
        ("c", "a cat", "x", 0, 64),  # the bytes of b, under another caption
        ("d", "a dog", "y", 0b111, 64),  # 3 bits from b
        ("e", "a cat", "z", 0b111, 64),  # near to others, but of another caption
    ]
    decision = decide(table(rows), [SIZE], [NEAR, SAME])
    assert decision.reason.to_pylist() == ["too_small", "", "duplicate_exact", "duplicate_near", ""]
    assert decision.detail.to_pylist() == [
        "width 16 < 32",
        "",
        "same image_sha256 as b",
        "phash 3 bits from b",
        "",
    ]
    assert decision.yields == (
        Yield("too_small", 5, 4),
        Yield("duplicate_exact", 4, 3),
        Yield("duplicate_near", 3, 2),
    )


def test_a_repeat_of_an_image_that_itself_repeats_names_the_kept_one_too() -> None:
    rows = [("a", "a dog", "x", 0, 64), ("b", "a dog", "y", 1, 64), ("c", "a cat", "y", 1, 64)]
    decision = decide(table(rows), [], [SAME, NEAR])
    assert decision.twin.tolist() == [-1, 0, 0]
    assert decision.detail.to_pylist()[2] == "same image_sha256 as b in whose place a is kept"


def test_without_a_group_near_images_of_all_captions_repeat() -> None:
    rows = [("a", "a dog", "x", 0, 64), ("b", "a cat", "y", 1, 64)]
    assert decide(table(rows), [], [NEAR]).kept.tolist() == [True, True]
    assert decide(table(rows), [], [NEAR.model_copy(update={"group": None})]).kept.tolist() == [True, False]


def test_an_image_without_a_hash_is_refused_with_the_scorers_reason() -> None:
    decision = decide(table([("a", "a dog", "x", None, None), ("b", "a dog", "x", 5, 64)]), [], [NEAR])
    assert (decision.reason.to_pylist(), decision.detail.to_pylist()) == (["truncated", ""], ["phash is missing", ""])


def test_equal_hashes_count_as_repeats_of_whole_numbers_too() -> None:
    rows = [("a", "a dog", "x", 7, 64), ("b", "a cat", "y", 7, 64), ("c", "a cat", "z", 6, 64)]
    decision = decide(table(rows), [], [Repeats(column="phash")])
    assert decision.reason.to_pylist() == ["", "duplicate_exact", ""]
    assert decision.detail.to_pylist() == ["", "same phash as a", ""]


def test_no_rows_and_no_rules_decide_nothing() -> None:
    empty = decide(table([]), [SIZE], [NEAR])
    assert (len(empty.kept), empty.yields) == (0, (Yield("too_small", 0, 0), Yield("duplicate_near", 0, 0)))
    kept: Decision = decide(table([("a", "", "", None, None)]), [], [])
    assert (kept.kept.tolist(), kept.yields) == ([True], ())


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ConfigError, match="no column 'pash'; did you mean 'phash'"):
        decide(table([]), [], [Repeats(column="pash")])
    with pytest.raises(ConfigError, match="holds string, in which no bits differ"):
        decide(table([]), [], [Repeats(column="image_sha256", bits=3)])
    with pytest.raises(ValidationError, match="less than or equal to 64"):
        Repeats(column="phash", bits=65)
    with pytest.raises(ValidationError, match="caption"):
        Repeats.model_validate({"column": "phash", "group": "prompt"})


def test_details_name_the_kept_row_of_any_number_of_repeats() -> None:
    rng = np.random.default_rng(0)
    rows = [(f"{at:05d}", "x", str(rng.integers(50)), int(rng.integers(2**63)), 64) for at in rng.permutation(3000)]
    decision = decide(table(rows), [], [SAME])
    kept = {row[2]: row[0] for row, stays in zip(rows, decision.kept, strict=True) if stays}
    assert kept == {digest: min(row[0] for row in rows if row[2] == digest) for digest in kept}
    for row, detail in zip(rows, decision.detail.to_pylist(), strict=True):
        assert detail in ("", f"same image_sha256 as {kept[row[2]]}")
