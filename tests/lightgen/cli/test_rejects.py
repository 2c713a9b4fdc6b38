"""`lightgen rejects REF`: counts from the manifest, examples from as few shards as hold them."""

import pytest

from lightgen.storage.shards import Reject, ShardOutput
from lightgen.storage.store import Store, open_or_create
from lightgen.storage.version import Version
from tests.lightgen.cli.terminal import lightgen
from tests.worked_version import SCHEMA, build, plan_of, rows

SHARDS = 6


def make(shard: int) -> ShardOutput:
    """Four rows; each shard refuses one as too long, and shard 4 one for a reason of its own."""
    row = {"id": f"long-{shard}", "caption": "words [bold]", "tokens": 300}
    refused = [Reject(f"long-{shard}", "too_long", f"{shard}00 tokens \x1b[31m", row)]
    if shard == 4:
        refused.append(Reject("odd", "not_text", "no letters", {"source": "ours", "tokens": 0}))
    return ShardOutput(rows(shard).table, 4 + len(refused), SCHEMA, refused)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    opened = open_or_create(str(tmp_path_factory.mktemp("rejects") / "store"))
    build(opened, plan_of(SHARDS), make, max_reject_fraction=1)
    return opened


@pytest.fixture
def rejects(store: Store, monkeypatch, capsys):
    def call(*options: object) -> tuple[int, str]:
        code, out, err = lightgen(
            "rejects", "captions", *options, "--store", store.uri, monkeypatch=monkeypatch, capsys=capsys
        )
        return code, out + err

    return call


def test_reasons_come_with_counts_and_examples(rejects) -> None:
    code, out = rejects("--limit", 2)
    assert code == 0
    assert "7 of 31 rows rejected" in out
    assert out.index("too_long") < out.index("not_text")
    assert [f"long-{n}" in out for n in range(SHARDS)] == [True, True, False, False, False, False]
    assert "source ours, tokens 0  (no letters)  odd" in out  # without a caption, all that there is
    assert "words [bold]  (000 tokens \\x1b[31m)  long-0" in out
    assert "\x1b[31m" not in out


def test_one_reason_reads_only_shards_that_hold_it(rejects, monkeypatch) -> None:
    read = []
    whole = Version.rejects
    monkeypatch.setattr(Version, "rejects", lambda self, shard: read.append(shard) or whole(self, shard))
    code, out = rejects("--reason", "not_text")
    assert (code, read) == (0, [4])
    assert "too_long" not in out
    read.clear()
    rejects("--limit", 1)
    assert read == [0, 4]


def test_a_reason_that_is_none_is_refused_with_those_there_are(rejects) -> None:
    code, out = rejects("--reason", "nonsense")
    assert code == 2
    assert "there is: too_long, not_text" in out.replace("\n", "")
