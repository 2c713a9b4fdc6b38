"""Scores of images: size, contrast, perceptual hash, or why a file is no image. No threshold is asked here."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from lightgen.decisions.perceptual import SIDE, contrast, luma, phash, shrink
from lightgen.progress import SILENT, Progress
from lightgen.storage.pixels import BadImage, decode_image

SCORES = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("id", "prompt_id", "caption", "image_sha256")),
        *(pa.field(name, pa.int32(), nullable=False, metadata={"unit": "px"}) for name in ("width", "height")),
        pa.field("phash", pa.uint64(), nullable=False),
        pa.field("contrast", pa.float32(), nullable=False),
        *(pa.field(name, pa.string(), nullable=False, metadata={"is": "empty if good"}) for name in ("bad", "detail")),
    ]
)
CHUNK = 64


def score(rows: pa.Table, files: Iterator[bytes], workers: int, progress: Progress = SILENT) -> pa.Table:
    """`rows` (id, prompt_id, caption, image_sha256) with the scores of their files; a chunk in memory at a time."""
    looks: list[tuple[BadImage | None, tuple[int, int], float, np.ndarray]] = []
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, rows.num_rows, CHUNK):
            chunk = [next(files) for _ in range(min(CHUNK, rows.num_rows - start))]
            looks += pool.map(_look, chunk)
            progress.advance(len(chunk))
    bad, sizes, contrasts, thumbnails = zip(*looks, strict=True) if looks else ((), (), (), ())
    columns = {
        "width": [width for width, _ in sizes],
        "height": [height for _, height in sizes],
        "phash": phash(thumbnails),
        "contrast": contrasts,
        "bad": [one.reason if one else "" for one in bad],
        "detail": [one.detail if one else "" for one in bad],
    }
    return pa.table({**{name: rows[name] for name in rows.column_names}, **columns}, schema=SCORES).combine_chunks()


def _look(data: bytes) -> tuple[BadImage | None, tuple[int, int], float, np.ndarray]:
    image = decode_image(data)
    if isinstance(image, BadImage):
        return image, (0, 0), 0.0, np.zeros((SIDE, SIDE), np.uint8)
    return None, (image.shape[1], image.shape[0]), contrast(image), shrink(luma(image))
