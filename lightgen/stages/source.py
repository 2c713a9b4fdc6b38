"""Corpora -> CAPTIONS: reads, repairs and counts captions; what is refused is kept with its reason."""

import hashlib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import ftfy
import pyarrow as pa
from pydantic import Field

from lightgen.config import Config
from lightgen.corpora.config import CorpusConfig
from lightgen.corpora.raw import RawCaption
from lightgen.engines.build import build
from lightgen.seeds import content_id
from lightgen.storage.plans import Stage
from lightgen.storage.shards import Reject, ShardOutput
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.captions import SCHEMA
from schemas.ref import ArtifactRef

DETAIL = 500
Count = Callable[[str], int]


STAGE = Stage("source", "captions", revision=1)


class SourceConfig(Config):
    """Which corpora, and what a caption must be."""

    corpora: list[CorpusConfig] = Field(min_length=1)
    tokenizer: str = Field(default="words", description="`words`, or id or path of a transformers tokenizer")
    min_characters: int = Field(default=3, ge=1)
    max_characters: int = Field(default=2000, ge=1)
    max_tokens: int = Field(default=128, ge=1, description="what the student's text encoder reads; the paper's 128")
    shard_rows: int = Field(default=1000, ge=1)
    max_reject_fraction: float = Field(default=0.6, ge=0, le=1)


@dataclass(frozen=True)
class Cleaned:
    """A caption ready to keep."""

    caption: str
    tokens: int


def source(config: SourceConfig, context: Context) -> ArtifactRef:
    """Captions of all corpora in shards; the same content under another path is the same version."""
    digest, rows = _digest(config)
    n_shards = max(1, -(-rows // config.shard_rows))
    plan = STAGE.plan(_without_paths(config), context.seed, [], n_shards, {"input_sha256": digest, "rows": rows})
    needs = Needs(sort="decision", unit="rows", total=rows)
    return build(Work.of(plan, config, [], context, f"{__name__}:open", needs), context)


def open(work: Work, worker: Worker) -> MakeShard:
    """See `lightgen.work`."""
    return _Shards(SourceConfig.model_validate(work.config)).of


def clean_rows(rows: Iterable[RawCaption], config: SourceConfig, count: Count, seen: set[str]) -> ShardOutput:
    """Cleaned captions and rejects; a caption whose id is in `seen` is a reject, the others are added to it."""
    kept: dict[str, dict[str, object]] = {}
    rejects: list[Reject] = []
    taken = 0
    for row in rows:
        taken += 1
        cleaned = clean(row.text, config, count)
        if isinstance(cleaned, tuple):
            reason, detail = cleaned
            rejects.append(_reject(row, reason, detail))
            continue
        key = content_id("caption", cleaned.caption)
        if key in seen:
            rejects.append(_reject(row, "duplicate_exact", f"same as {key}"))
            continue
        seen.add(key)
        kept[key] = {
            "id": key,
            "caption": cleaned.caption,
            "tokens": cleaned.tokens,
            "source": row.source,
            "licence": row.licence,
        }
    return ShardOutput(
        table=pa.Table.from_pylist(list(kept.values()), SCHEMA), schema=SCHEMA, rejects=rejects, rows_in=taken
    )


def clean(text: str | bytes | None, config: SourceConfig, count: Count) -> Cleaned | tuple[str, str]:
    """The repaired caption and its tokens, or (reason, detail)."""
    if text is None:
        return "caption_empty", "no text"
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            return "caption_encoding", f"not UTF-8: {error.reason} at byte {error.start}"
    if wrong := _unreadable(text):
        return "caption_encoding", wrong
    if len(text) > 8 * config.max_characters:
        # Repairing megabytes is work for nothing.
        return "caption_too_long", f"{len(text)} characters, at most {config.max_characters}"
    fixed = re.sub(r"\s+", " ", ftfy.fix_text(text, normalization="NFC")).strip()
    if len(fixed) < config.min_characters:
        return "caption_empty", f"{len(fixed)} characters, at least {config.min_characters}"
    if len(fixed) > config.max_characters:
        return "caption_too_long", f"{len(fixed)} characters, at most {config.max_characters}"
    tokens = count(fixed)
    if tokens > config.max_tokens:
        return "caption_too_long", f"{tokens} tokens, at most {config.max_tokens}"
    return Cleaned(fixed, tokens)


def _unreadable(text: str) -> str:
    if "\0" in text:
        return "a NUL character"
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "a lone surrogate: the file is not UTF-8"
    if "\ufffd" in text:
        return "a replacement character: the text was decoded wrongly before"
    return ""


@cache
def tokenizer(name: str) -> Count:
    """Counts the tokens of a caption as the student's text encoder would."""
    if name == "words":
        return lambda text: len(text.split())
    from transformers import AutoTokenizer

    known = AutoTokenizer.from_pretrained(name)
    return lambda text: len(known(text)["input_ids"])


def _reject(row: RawCaption, reason: str, detail: str) -> Reject:
    shown = row.text if isinstance(row.text, str) else (row.text or b"").decode("utf-8", "backslashreplace")
    shown = shown.encode("utf-8", "backslashreplace").decode()[:DETAIL]
    record = {"text": shown, "source": row.source, "licence": row.licence}
    return Reject(content_id("raw", shown, row.source), reason, f"{row.where}: {detail}"[:DETAIL], record)


def _read(config: SourceConfig) -> Iterator[RawCaption]:
    return itertools.chain.from_iterable(corpus.read() for corpus in config.corpora)


def _digest(config: SourceConfig) -> tuple[str, int]:
    """Digest and number of all raw captions: a file changed under the same path is another version."""
    digest, rows = hashlib.sha256(), 0
    for row in _read(config):
        text = row.text.encode("utf-8", "surrogatepass") if isinstance(row.text, str) else row.text
        for part in (text or b"", row.source.encode(), row.licence.encode()):
            digest.update(len(part).to_bytes(8, "big") + part)
        rows += 1
    return digest.hexdigest(), rows


class _WithoutPaths(Config):
    tokenizer: str
    min_characters: int
    max_characters: int
    max_tokens: int
    shard_rows: int


def _without_paths(config: SourceConfig) -> _WithoutPaths:
    """The settings that decide the rows; where the files lie does not, of a local tokenizer neither."""
    settings = config.model_dump(include=set(_WithoutPaths.model_fields))
    return _WithoutPaths.model_validate(settings | {"tokenizer": _identity(config.tokenizer)})


def _identity(tokenizer: str) -> str:
    """The id as it is; of a folder, the digest of its tokenizer files."""
    folder = Path(tokenizer)
    if not folder.is_dir():
        return tokenizer
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".model", ".txt"))
    return content_id("tokenizer", *([path.name, hashlib.sha256(path.read_bytes()).hexdigest()] for path in files))


class _Shards:
    """Shards, cleaned in one pass over the corpora from the first on: what is a repeat depends on all rows before.

    They are asked for in any order; those made on the way to a later one wait in memory.
    """

    def __init__(self, config: SourceConfig) -> None:
        self.config, self.rows, self.seen = config, _read(config), set[str]()
        self.made: list[ShardOutput] = []

    def of(self, shard: int) -> ShardOutput:
        """Cleaned rows and rejects of `shard`."""
        count = tokenizer(self.config.tokenizer)
        while len(self.made) <= shard:
            chunk = itertools.islice(self.rows, self.config.shard_rows)
            self.made.append(clean_rows(chunk, self.config, count, self.seen))
        return self.made[shard]
