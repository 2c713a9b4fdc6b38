"""Narrow columns of scores, of one scorer (`contrast`) or of several (`pixels.contrast`), read by name."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

import difflib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightgen.errors import ConfigError

UNSCORED = "unscored"


def column(table: pa.Table, name: str) -> pa.Array:
    """A column in one piece; raises ConfigError that names the columns there are."""
    if name in table.column_names:
        return table[name].combine_chunks()
    known = [known for known in table.column_names if known.rpartition(".")[2] != UNSCORED]
    last = {known.rpartition(".")[2]: known for known in known}
    near = difflib.get_close_matches(name, known, n=1) or difflib.get_close_matches(name, last, n=1)
    hint = f"did you mean {last.get(near[0], near[0])!r}? " if near else ""
    raise ConfigError(f"scores have no column {name!r}; {hint}they have {', '.join(known)}")


def numbers(table: pa.Table, name: str) -> pa.Array:
    """A column of numbers as float32 or float64, true as 1; raises ConfigError on other types."""
    values = column(table, name)
    if pa.types.is_float16(values.type):
        return values.cast(pa.float32())
    if pa.types.is_floating(values.type):
        return values
    if pa.types.is_integer(values.type):
        return values.cast(pa.float64(), safe=False)
    if pa.types.is_boolean(values.type):
        return values.cast(pa.int8()).cast(pa.float64())
    raise ConfigError(f"column {name!r} holds {values.type}; a rule compares numbers")


def why_unscored(table: pa.Table, name: str) -> pa.Array:
    """For each row the reason why the scorer of this column gave no score; `unscored` where it gives none."""
    scorer, dot, _ = name.rpartition(".")
    of = f"{scorer}{dot}{UNSCORED}"
    if of not in table.column_names:
        return pa.array(np.full(table.num_rows, UNSCORED))
    said = pc.fill_null(table[of].combine_chunks(), "")
    return pc.if_else(pc.equal(said, ""), UNSCORED, said)


def texts(rows: int, text: str = "") -> pa.LargeStringArray:
    """The same text in every row."""
    return pa.repeat(pa.scalar(text, pa.large_string()), rows)


def joined(*parts: pa.Array | str) -> pa.LargeStringArray:
    """Values as text and constant texts, one after the other with spaces between; null where a value is."""
    large = [
        pa.scalar(part, pa.large_string()) if isinstance(part, str) else part.cast(pa.large_string()) for part in parts
    ]
    return pc.binary_join_element_wise(*large, pa.scalar(" ", pa.large_string()))
