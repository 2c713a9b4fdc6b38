"""From samples to image files: taken over from other versions, read back from a journal, or drawn batch by batch."""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa

from lightgen.errors import RefNotFound, StoreCorrupt, TryLater
from lightgen.generators.base import Drawn, Failure, Generator, Retry, Revised, Stop
from lightgen.progress import Progress
from lightgen.storage.journal import Journal
from lightgen.storage.pixels import ImageFormat, encode_image
from lightgen.storage.reuse import Lender, LentShard, taken

log = logging.getLogger(__name__)
RETRIES, FIRST_WAIT_S = 3, 1.0
JOURNAL = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("data", pa.large_binary(), nullable=False, metadata={"is": "the file; empty where there is none"}),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("reason", pa.string(), nullable=False, metadata={"is": "why there is no image, or empty"}),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("revised", pa.string(), nullable=False, metadata={"is": "the words that were drawn; empty: as asked"}),
    ]
)


@dataclass(frozen=True)
class Sample:
    """One image to be drawn."""

    id: str
    prompt_id: str
    caption: str
    index: int
    seed: int


@dataclass(frozen=True)
class ImageFile:
    """The encoded file of an image; `revised` are the words that were drawn, "" for those that were asked for."""

    data: bytes
    sha256: str
    height: int
    width: int
    revised: str = ""


Made = ImageFile | Failure


@dataclass(frozen=True)
class Drawing:
    """How images are drawn and encoded; `open` loads the generator when the first image is wanted."""

    open: Callable[[], Generator]
    sides: tuple[int, int] | None
    format: ImageFormat
    quality: int
    batch: int
    workers: int
    journals: bool
    sleep: Callable[[float], None] = field(default=time.sleep)

    @cached_property
    def generator(self) -> Generator:
        """The generator, loaded."""
        return self.open()


def take_over(known: Sequence[Lender], shard: int, wanted: Sequence[str]) -> LentShard | dict[str, Made]:
    """What other versions hold of the images `wanted`: a whole shard, or files and failures by id."""
    for lender in known:
        if _equal(lender, shard, wanted):
            return LentShard(lender.version, shard)
    found: dict[str, Made] = {}
    for lender, where, keys in taken(known, shard, wanted):
        try:
            found |= dict(_copied(lender, where, keys))
        except (RefNotFound, StoreCorrupt, FileNotFoundError) as error:
            log.warning("%s lends nothing of its shard %d: %s", lender.version.ref, where, error)
    return found


def _equal(lender: Lender, shard: int, wanted: Sequence[str]) -> bool:
    """Whether a shard holds these images in this order, and no other."""
    keys = lender.shard_keys(shard)
    if set(keys) != set(wanted):
        return False
    rows = keys[: lender.version.manifest.shards[shard].rows_out]
    there = set(rows)
    return rows == [key for key in wanted if key in there]


def _copied(lender: Lender, shard: int, keys: Sequence[str]) -> Iterator[tuple[str, Made]]:
    version, wanted = lender.version, set(keys)
    rows = {row["id"]: row for row in version.table(shard).to_pylist() if row["id"] in wanted}
    for id, members in version.members_of(shard, rows).items():
        row = rows[id]
        sides = row["height"], row["width"]
        yield id, ImageFile(members[row["format"]], row["image_sha256"], *sides, row.get("revised", ""))
    for reject in version.rejects(shard).to_pylist():
        if reject["id"] in wanted:
            yield reject["id"], Failure(reject["reason"], reject["detail"])


def draw(samples: Sequence[Sample], drawing: Drawing, journal: Journal, progress: Progress) -> dict[str, Made]:
    """Every sample's file or failure: from the journal, else drawn, batch after batch, while threads encode.

    Raises TryLater where an image cannot be drawn now, even after some tries, and the error of a generator that stops;
    what was drawn is kept in the journal of a generator that journals.
    """
    made = _read(journal) if drawing.journals else {}
    progress.advance(sum(sample.id in made for sample in samples))
    left = [sample for sample in samples if sample.id not in made]
    for attempt in range(1 + RETRIES):
        made |= _pass(left, drawing, journal, progress)
        left = [sample for sample in left if sample.id not in made]
        if not left:
            return made
        if attempt < RETRIES:
            drawing.sleep(FIRST_WAIT_S * 2**attempt)
    raise TryLater(
        f"{len(left)} images could not be drawn after {1 + RETRIES} tries, such as {left[0].caption[:80]!r}. What was "
        "drawn is kept: run the same command again later"
    )


def _pass(samples: Sequence[Sample], drawing: Drawing, journal: Journal, progress: Progress) -> dict[str, Made]:
    """One try at every sample; those that must be tried again are missing in the result."""
    encoding: list[Future[dict[str, Made]]] = []
    height, width = drawing.sides or (0, 0)
    with ThreadPoolExecutor(drawing.workers) as pool:
        for start in range(0, len(samples), drawing.batch):
            batch = samples[start : start + drawing.batch]
            captions, seeds = [one.caption for one in batch], [one.seed for one in batch]
            images = drawing.generator.generate(captions, seeds, height, width)
            assert len(images) == len(batch), f"the generator gave {len(images)} images for {len(batch)} captions"
            encoding.append(pool.submit(_finish, batch, images, drawing, journal))
            progress.advance(sum(not isinstance(image, Retry | Stop) for image in images))
            for stopped in (image for image in images if isinstance(image, Stop)):
                wait(encoding)
                raise stopped.error
    return {id: file for batch in encoding for id, file in batch.result().items()}


def _finish(batch: Sequence[Sample], images: Sequence[Drawn], drawing: Drawing, journal: Journal) -> dict[str, Made]:
    """Encode a batch, and keep it where that is worth while."""
    made: dict[str, Made] = {}
    for sample, image in zip(batch, images, strict=True):
        if isinstance(image, Stop):
            continue
        if isinstance(image, Retry):
            log.warning("%s: %s; it will be tried again", image.reason, image.detail)
        else:
            made[sample.id] = image if isinstance(image, Failure) else _encoded(image, drawing)
    if drawing.journals:
        journal.add(pa.Table.from_pylist([_entry(id, file) for id, file in made.items()], schema=JOURNAL))
    return made


def _encoded(drawn: np.ndarray | Revised, drawing: Drawing) -> ImageFile:
    image, revised = (drawn.pixels, drawn.caption) if isinstance(drawn, Revised) else (drawn, "")
    assert image.shape == (*(drawing.sides or image.shape[:2]), 3), f"the generator gave {image.shape}"
    assert image.dtype == np.uint8, f"the generator gave {image.dtype}"
    data = encode_image(image, drawing.format, drawing.quality)
    return ImageFile(data, hashlib.sha256(data).hexdigest(), image.shape[0], image.shape[1], revised)


def _entry(id: str, file: Made) -> dict[str, object]:
    if isinstance(file, Failure):
        none = {"data": b"", "height": 0, "width": 0, "revised": ""}
        return {"id": id, "reason": file.reason, "detail": file.detail, **none}
    picture = {name: getattr(file, name) for name in ("data", "height", "width", "revised")}
    return {"id": id, "reason": "", "detail": "", **picture}


def _read(journal: Journal) -> dict[str, Made]:
    """What an earlier attempt has finished."""
    found: dict[str, Made] = {}
    for row in (row for table in journal.read() for row in table.to_pylist()):
        if row["reason"]:
            found[row["id"]] = Failure(row["reason"], row["detail"])
        else:
            digest, sides = hashlib.sha256(row["data"]).hexdigest(), (row["height"], row["width"])
            found[row["id"]] = ImageFile(row["data"], digest, *sides, row.get("revised", ""))
    return found
