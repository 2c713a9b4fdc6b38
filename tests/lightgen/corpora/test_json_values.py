"""Many JSON values in one call: what comes out, and that the collector of cycles rests meanwhile and works after."""

import gc
import json

import pytest

from lightgen.corpora.json_values import json_values

MANY = b",".join(b'{"a": {"b": [1]}}' for _ in range(20_000))


def _collections(run) -> int:
    before = sum(one["collections"] for one in gc.get_stats())
    kept = run()
    after = sum(one["collections"] for one in gc.get_stats())
    assert len(kept) == 20_000
    return after - before


def test_the_collector_rests_while_values_are_read() -> None:
    # What was made before may start it once it is on again.
    assert _collections(lambda: json_values(MANY)) <= 3
    assert _collections(lambda: json.loads(b"[" + MANY + b"]")) > 20, "null control"


def test_the_collector_is_as_it_was() -> None:
    assert json_values(b'1, "b", null') == [1, "b", None]
    assert gc.isenabled()
    with pytest.raises(ValueError, match="Expecting"):
        json_values(b"{")
    assert gc.isenabled()
    gc.disable()
    try:
        json_values(b"")
        assert not gc.isenabled()
    finally:
        gc.enable()
