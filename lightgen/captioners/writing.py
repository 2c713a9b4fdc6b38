"""From images to captions: taken over from other versions, read back from a journal, or written batch by batch."""

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lightgen.captioners.base import Captioner, CaptionerMember, Shown, Written
from lightgen.errors import RefNotFound, StoreCorrupt
from lightgen.http import unsettled
from lightgen.progress import Progress
from lightgen.seeds import content_id, derive_seed
from lightgen.storage.journal import Journal
from lightgen.storage.pixels import BadImage, Pixels, decode_image
from lightgen.storage.reuse import Lender, taken
from lightgen.storage.store import Store
from lightgen.storage.version import Version

JOURNAL = pa.schema(
    [pa.field("key", pa.string(), nullable=False)]
    + [pa.field(name, pa.string(), nullable=False) for name in ("caption", "answer", "reason", "detail")]
    + [pa.field("tokens", pa.int32(), nullable=False)]
)
Found = dict[str, Written]  # by key of the image
Batch = tuple[list["Wanted"], list[Shown | BadImage]]


@dataclass(frozen=True)
class Wanted:
    """An image that wants a caption; `key` is what its caption depends on, beside the settings."""

    image_id: str
    image_sha256: str
    original: str
    source: str
    licence: str
    style: str
    key: str


@dataclass(frozen=True)
class Showing:
    """How images are shown to a captioner."""

    member: CaptionerMember
    workers: int
    seed: int


def key_of(image_sha256: str, style: str, original: str, looks: bool) -> str:
    """What a caption depends on: a captioner that looks at pictures is not told what they came with."""
    return content_id(image_sha256, style, "" if looks else original)


def write(
    source: Version, shard: int, wanted: Sequence[Wanted], showing: Showing, captioner: Callable[[], Captioner],
    progress: Progress,
) -> Iterator[Found]:  # fmt: skip
    """What is written of the images of a shard, batch by batch; equal images in the same style are shown once."""
    for rows, shown in _batches(source, shard, list({row.key: row for row in wanted}.values()), showing):
        yield dict(zip([row.key for row in rows], _answers(shown, captioner), strict=True))
        progress.advance(len(rows))


def written(batches: Iterator[Found], journal: Journal | None) -> Found:
    """All captions of the batches by key; the finished ones of each are kept in the journal before an error ends it.

    Raises TryLater, ServiceRefused, SpendLimit.
    """
    found: Found = {}
    for made in batches:
        errors = {key: error for key, one in made.items() if (error := unsettled(one.reason, one.detail))}
        settled = {key: one for key, one in made.items() if key not in errors}
        if journal is not None:
            entries = [{"key": key, **vars(one)} for key, one in settled.items()]
            journal.add(pa.Table.from_pylist(entries, schema=JOURNAL))
        for error in errors.values():
            raise error
        found |= settled
    return found


def journalled(journal: Journal | None) -> Found:
    """What an earlier attempt has finished."""
    tables = journal.read() if journal is not None else []
    rows = [row for table in tables for row in table.to_pylist()]
    return {row.pop("key"): Written(**row) for row in rows}


def _answers(shown: Sequence[Shown | BadImage], captioner: Callable[[], Captioner]) -> list[Written]:
    """What is written of each picture; one that cannot be read is not shown."""
    asked = [one for one in shown if not isinstance(one, BadImage)]
    answers = iter(captioner().write(asked) if asked else [])
    refused = [Written(reason=one.reason, detail=one.detail) if isinstance(one, BadImage) else None for one in shown]
    return [one or next(answers) for one in refused]


def _batches(source: Version, shard: int, rows: Sequence[Wanted], showing: Showing) -> Iterator[Batch]:
    """Images that are to be shown, a batch of the captioner's at a time."""
    members: dict[str, dict[str, bytes]] = {}
    if showing.member.looks:
        members = source.members_of(shard, [row.image_id for row in rows])
    with ThreadPoolExecutor(showing.workers) as pool:
        for start in range(0, len(rows), showing.member.batch):
            batch = list(itertools.islice(rows, start, start + showing.member.batch))
            files = [_file(members[row.image_id]) for row in batch if members]
            pixels = list(pool.map(decode_image, files)) if files else [None] * len(batch)
            yield batch, [_shown(row, image, showing.seed) for row, image in zip(batch, pixels, strict=True)]


def _file(members: dict[str, bytes]) -> bytes:
    return next(data for name, data in members.items() if name != "json")


def _shown(row: Wanted, image: Pixels | BadImage | None, seed: int) -> Shown | BadImage:
    if isinstance(image, BadImage):
        return image
    return Shown(image, row.original, row.style, derive_seed(seed, "recaption", row.image_sha256, row.style))


@dataclass(frozen=True)
class Lent:
    """Captions and refusals that other versions of prompts hold, by key."""

    store: Store
    looks: bool

    def keys(self, version: Version, shard: int) -> list[str]:
        """Of all rows and rejects of a shard."""
        return list(self._by_key(version, shard))

    def of(self, known: Sequence[Lender], shard: int, wanted: Sequence[Wanted]) -> Found:
        """What is known of these images."""
        found: Found = {}
        for lender, where, keys in taken(known, shard, list({row.key for row in wanted})):
            there = self._by_key(lender.version, where)
            found |= {key: there[key] for key in keys}
        return found

    def _by_key(self, version: Version, shard: int) -> Found:
        """Nothing where the images of the version are gone."""
        try:
            images = self.store.open(version.parent("images")).table(shard, columns=["id", "image_sha256"])
        except (RefNotFound, StoreCorrupt):
            return {}
        digests = dict(zip(images["id"].to_pylist(), images["image_sha256"].to_pylist(), strict=True))
        found: Found = {}
        for row in version.table(shard).to_pylist():
            key = key_of(digests[row["image_id"]], row["style"], row["original"], self.looks)
            found[key] = Written(row["caption"], row["tokens"], row["answer"])
        for reject in version.rejects(shard).to_pylist():
            lost: dict[str, Any] = json.loads(reject["row"])
            key = key_of(lost["image_sha256"], lost["style"], lost["original"], self.looks)
            found[key] = Written(answer=lost["answer"], reason=reject["reason"], detail=reject["detail"])
        return found
