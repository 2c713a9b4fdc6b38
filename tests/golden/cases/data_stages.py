"""Stages from captions to features, with stand-ins for members: each has a golden and a number of its own."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lightgen.config import content_of
from lightgen.encoders.words import WordsConfig
from lightgen.generators.base import Failure
from lightgen.scorers.base import Unscored, answer_table
from lightgen.scorers.pixels import PixelsConfig
from lightgen.seeds import content_id
from lightgen.stages import encode, encode_pairs, filter, fit_vae, generate, join, score, select, source, texts
from lightgen.storage.feature_codec import stds_from_table, text_from_table
from lightgen.storage.pixels import Pixels, decode_image
from lightgen.storage.shards import Reject, ShardOutput
from lightgen.storage.store import Store
from schemas import captions as captions_schema
from schemas import images as images_schema
from schemas import pairs as pairs_schema
from schemas.ref import ArtifactRef
from tests.golden.cases.decisions import PROMPTS, TEXTS
from tests.golden.compare import png
from tests.golden.given import (
    CAPTIONS,
    FLUX,
    INPUTS,
    PCA,
    context,
    described,
    sealed_checkpoint,
    sealed_images,
    sealed_vae,
    wave,
)
from tests.golden.subject import Output, Subject, Tolerance
from tests.lightgen.sealed import image, images, kept_of, prompts, scores, seal

WORDS, VAE = {"kind": "words", "dim": 6}, PCA.model_dump()
REJECTS = {"max_reject_fraction": 1.0}


def subjects() -> list[Subject]:
    """One a stage."""
    return [
        Subject("stage source", (source,), source.SourceConfig, SOURCES, _source),
        Subject("stage select", (select,), select.SelectConfig, SELECTIONS, _select),
        Subject("stage generate", (generate,), generate.GenerateConfig, DRAWINGS, _generate, Tolerance(levels=3)),
        Subject("stage join", (join,), join.JoinConfig, {"plain": {}}, _join),
        Subject("stage score", (score,), score.ScoreConfig, {"pixels": {"scorer": {"kind": "pixels"}}}, _score),
        Subject("stage filter", (filter,), filter.FilterConfig, FILTERS, _filter),
        Subject("stage fit_vae", (fit_vae,), fit_vae.FitVaeConfig, FITS, _fit_vae),
        Subject("stage encode", (encode,), encode.EncodeConfig, ENCODINGS, _encode, Tolerance(1e-3, 1e-3)),
        Subject("stage texts", (texts,), texts.TextsConfig, TEXTS_OF, _texts,
                Tolerance(1e-3, 1e-3)),
        Subject("stage encode_pairs", (encode_pairs,), encode_pairs.EncodePairsConfig, {"plain": {}}, _encode_pairs,
                Tolerance(1e-3, 1e-3)),
    ]  # fmt: skip


FITS = {"diffusers": {"vae": {"kind": "diffusers", "model": str(FLUX)}}}
CORPUS = {"corpora": [{"kind": "text", "path": "given", "source": "one"}]} | REJECTS
SOURCES: dict[str, dict[str, Any]] = {
    "plain": CORPUS,
    "two corpora": {"corpora": [CORPUS["corpora"][0], {"kind": "scenes", "split": "test", "count": 6}]} | REJECTS,
    "narrow": CORPUS | {"min_characters": 12, "max_characters": 60, "max_tokens": 8},
    "small shards": CORPUS | {"shard_rows": 3},
    "tokenizer": CORPUS | {"tokenizer": {"model": str(FLUX), "subfolder": "tokenizer_2"}, "max_tokens": 20},
}
SENTENCE = FLUX.parent / "sentence"
LIST = [{"kind": "text", "path": "given", "source": "exam"}]
SELECTIONS: dict[str, dict[str, Any]] = {
    "plain": {"evaluation": LIST},
    "exact only": {"near_duplicates": None},
    "some": {"near_duplicates": {"threshold": 0.4}, "count": 3, "embedding_dim": 32},
    "k-center": {"near_duplicates": None, "count": 5, "choice": {"kind": "k_center"}},
    "small parts": {"near_duplicates": None, "count": 5, "choice": {"kind": "parts", "part_rows": 4}},
    "balance": {"near_duplicates": None, "count": 5, "choice": {"kind": "balance"}},
    "balance+parts": {"near_duplicates": None, "count": 4, "choice": {"kind": "balance+parts"}},
    "small pool": {"near_duplicates": None, "count": 4,
                   "choice": {"kind": "balance+parts", "part_rows": 4, "pool": 1.5}},
    "semantic": {"near_duplicates": None, "semantic": {"encoder": {"model": str(SENTENCE)}}},
    "loosely": {"near_duplicates": None, "semantic": {
        "encoder": {"model": str(SENTENCE), "max_tokens": 4}, "threshold": 0.5, "recall": 0.5}},
    "strict": {"evaluation": LIST, "contamination": {"containment": 0.5, "words": 2}},
}  # fmt: skip
DRAWING = {"generator": {"kind": "scenes"}, "size_px": 16, "format": "png"} | REJECTS
DRAWINGS: dict[str, dict[str, Any]] = {
    "png": DRAWING,
    "jpg": DRAWING | {"format": "jpg", "quality": 60},
    "webp": DRAWING | {"format": "webp"},
    "wide, twice": DRAWING | {"size_px": None, "height_px": 16, "width_px": 24, "samples_per_prompt": 2},
    "by source": DRAWING | {"samples_by_source": {"test:1": 3}},
    "a part": DRAWING | {"part": {"name": "b", "shares": {"a": 1.0, "b": 2.0}}},
    "as trained": {"generator": {"kind": "student"}, "format": "png"},
}
BY_CONTRAST = {"column": "pixels.contrast", "most": 0.9, "reason": "wild"}
FILTERS: dict[str, dict[str, Any]] = {
    "default": REJECTS,
    "derived": {"rules": [{"column": "pixels.mean", "least": 0.5}], "repeats": [],
                "derive": {"pixels": {"kind": "answers", "columns": ["width", "short_side"], "best": 50}}} | REJECTS,
    "best": {"rules": [], "repeats": [], "best": [
        {"column": "pixels.contrast", "group": "caption", "of": 3},
        {"column": "pixels.width", "group": "prompt_id", "keep": 2, "reason": "not_second"}]} | REJECTS,
    "rules": {"rules": [BY_CONTRAST, {"column": "pixels.width", "least": 30}], "repeats": []} | REJECTS,
    "repeats": {"rules": [], "repeats": [{"column": "pixels.phash", "bits": 2}, {"column": "caption"},
                                         {"column": "pixels.phash", "bits": 40, "group": "caption"}]} | REJECTS,
}  # fmt: skip
TEXTS_OF = {"plain": {"encoder": WORDS} | REJECTS, "int8": {"encoder": WORDS, "codec": "int8"} | REJECTS}
ENCODING = {"size_px": 16, "vae": VAE} | REJECTS
ENCODINGS = {
    "plain": ENCODING,
    "8 bits": ENCODING | {"std_bits": 8},
    "small, mirrored": ENCODING | {"size_px": 8, "flips": "safe"},
    "small, all mirrored": ENCODING | {"size_px": 8, "flips": "all"},
}


def _source(config: source.SourceConfig, folder: Path) -> Output:
    path = folder / "a.txt"
    path.write_bytes(
        "\n".join(["", *TEXTS[:6], "caf\u00c3\u00a9  au \tlait", "a" * 90]).encode() + b"\nnot \xff UTF-8\n"
    )
    corpora = [one.model_copy(update={"path": str(path)}) if one.kind != "scenes" else one for one in config.corpora]
    works = context(folder)
    found = described(works.store, source.source(config.model_copy(update={"corpora": corpora}), works))
    # Details of rejects name the file.
    return json.loads(json.dumps(found).replace(str(folder), "FOLDER"))


def _select(config: select.SelectConfig, folder: Path) -> Output:
    (folder / "a.txt").write_text("\n".join(PROMPTS))
    lists = [one.model_copy(update={"path": str(folder / "a.txt")}) for one in config.evaluation]
    works = context(folder)
    rows = [
        {"id": content_id("record", place), "caption_id": content_id("caption", text), "caption": text, "tokens": 9,
         "source": "given", "licence": "none"}
        for place, text in enumerate([*TEXTS, "A photo of a bench.", "a photo of a red bench"])
    ]  # fmt: skip
    shards = [_shard(part, captions_schema.SCHEMA) for part in (rows[:5], rows[5:])]
    given = seal(works.store, "captions", shards, stage="source")
    return described(works.store, select.select(given, config.model_copy(update={"evaluation": lists}), works))


class Gradient:
    """Draws slopes that the seed turns, and no dogs."""

    def generate(self, captions: Sequence[str], seeds: Sequence[int], height_px: int, width_px: int) -> list[Any]:
        y, x = np.mgrid[0 : height_px or 12, 0 : width_px or 20]
        return [
            Failure("not_drawable", "no dogs") if "dog" in caption
            else np.stack([x * 7 + seed % 97, y * 9, 200 - x * 3 - y], -1).astype(np.uint8)
            for caption, seed in zip(captions, seeds, strict=True)
        ]  # fmt: skip


def _generate(config: generate.GenerateConfig, folder: Path) -> Output:
    works = context(folder)
    asked = prompts(works.store, ["a cat", "a dog", "two cups"], 2)
    checkpoint = [sealed_checkpoint(works.store)] if config.generator.draws_with_checkpoint else []
    # Ids depend on the number of the generator.
    with mock.patch.multiple(type(config.generator), open=lambda *_: Gradient(), REVISION=1):
        ref = generate.generate(asked, config.model_copy(update=REJECTS), works, *checkpoint)
    version = works.store.open(ref)
    drawn = {row["id"]: decode_image(version.member(row["id"], row["format"])) for row in version.table().to_pylist()}
    # The bytes of a file are the image library's.
    found = described(works.store, ref, drop=["image_sha256"])
    return found | {"pictures": {id: png(one) for id, one in drawn.items() if isinstance(one, np.ndarray)}}


def _join(config: join.JoinConfig, folder: Path) -> Output:
    """What was drawn, with a reject, and what was fetched, which has columns of its own."""
    works, data = context(folder), (INPUTS / "flat.png").read_bytes()
    where = {"url": "u", "host": "h", "source": "s", "licence": "l"}
    fetched = images(works.store, [image(f"fetched {place}", data, **where) for place in range(2)], 1, "fetch")
    drawn = [(row, data) for row, _ in (image(f"drawn {place}", data) for place in range(3))]
    blobs = [{"png": file, "json": b"{}"} for _, file in drawn]
    lost = [Reject("0" * 32, "refused", "by the service", {"caption": "a dog"})]
    table = pa.Table.from_pylist([row for row, _ in drawn], schema=images_schema.SCHEMA)
    shard = ShardOutput(table, 4, images_schema.SCHEMA, rejects=lost, blobs=blobs)
    given = [seal(works.store, "images", [shard]), fetched]
    return described(works.store, join.join(given, config, works))


class Sums:
    """Says how large and how bright a picture is, but for dogs."""

    def score(self, images: Sequence[Pixels], captions: Sequence[str]) -> pa.Table:
        rows = [
            Unscored("dog", "it may not look at dogs") if "dog" in caption
            else {"width": one.shape[1], "height": one.shape[0], "short_side": min(one.shape[:2]),
                  "contrast": float(one.mean()) / 255, "phash": int(one.sum())}
            for one, caption in zip(images, captions, strict=True)
        ]  # fmt: skip
        return answer_table(PixelsConfig.ANSWERS, rows)


def _score(config: score.ScoreConfig, folder: Path) -> Output:
    works = context(folder)
    with mock.patch.object(PixelsConfig, "open", return_value=Sums()):
        ref = score.score(sealed_images(works.store), config, works)
    return described(works.store, ref)


def _filter(config: filter.FilterConfig, folder: Path) -> Output:
    works = context(folder)
    drawn = sealed_images(works.store, ["scene-0", "scene-1", "scene-2", "near", "wide", "flat", "scene-0 again"])
    answers: dict[str, dict[str, Any]] = {}
    for place, row in enumerate(works.store.open(drawn).table().to_pylist()):
        scored = {"width": 24 + place, "height": 32, "short_side": 24 + 4 * place, "contrast": place / 6 - 0.1,
                  "phash": 1 << (place // 2)}  # fmt: skip
        answers[row["id"]] = scored if place else {"unscored": "dog", "unscored_detail": "it may not look at dogs"}
    judged = scores(works.store, drawn, answers, PixelsConfig.ANSWERS)
    return described(works.store, filter.filter_images(drawn, {"pixels": judged}, config, works))


def _fit_vae(config: fit_vae.FitVaeConfig, folder: Path) -> Output:
    works = context(folder)
    images = sealed_images(works.store)
    return described(works.store, fit_vae.fit_vae(_all_kept(works.store, images), images, config, works))


class Blocks:
    """Means of blocks of 4 px, of each channel and of all."""

    def latent_shape(self, size_px: int) -> tuple[int, int, int]:
        return 4, size_px // 4, size_px // 4

    def encode(self, images: UInt8[Tensor, "b H W 3"]) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
        means = torch.nn.functional.avg_pool2d(images.movedim(-1, 1).float(), 4) / 64 - 2
        latents = torch.cat([means, means.mean(1, keepdim=True)], 1)
        return latents, latents.abs() / 8


class Letters:
    """A vector a word, by its length."""

    dim, storage = 6, "float16"

    def encode(self, captions: list[str]) -> list[Float[Tensor, "tokens dim"]]:
        return [torch.from_numpy(wave(len(text.split()), 6, seed=len(text))).float() for text in captions]


def _encode(config: encode.EncodeConfig, folder: Path) -> Output:
    works = context(folder)
    images = sealed_images(works.store)
    with (
        mock.patch.object(encode, "load_vae", return_value=Blocks()),
        mock.patch.object(encode, "read_identity", return_value=content_of(config.vae)),
    ):
        ref = encode.encode(_all_kept(works.store, images), images, sealed_vae(works.store).ref, config, works)
    return _decoded(works.store, ref, ["latent_std"], config.std_bits == 8)


def _texts(config: texts.TextsConfig, folder: Path) -> Output:
    works = context(folder)
    asked = prompts(works.store, [*CAPTIONS.values()], 2)
    with mock.patch.object(WordsConfig, "open", return_value=Letters()):
        ref = texts.texts(asked, config, works)
    return _decoded(works.store, ref, ["text"], config.codec != "plain")


def _decoded(store: Store, ref: ArtifactRef, columns: list[str], short: bool) -> Output:
    """A version; of `columns` in 8 bits the numbers that are read, not the bytes."""
    if not short:
        return described(store, ref)
    table = store.open(ref).table()
    read = [stds_from_table(table, name) if name != "text" else text_from_table(table)[0] for name in columns]
    return described(store, ref, drop=columns) | {"read": [one.float().flatten().tolist() for one in read]}


def _encode_pairs(config: encode_pairs.EncodePairsConfig, folder: Path) -> Output:
    works = context(folder)
    images = sealed_images(works.store, ["scene-0", "scene-1", "scene-2", "near"])
    ids = {name: content_id(name) for name in [*CAPTIONS, "broken"]}
    made = [("scene-0", "scene-1"), ("scene-2", "near"), ("scene-1", "broken")]
    shards: list[list[dict[str, Any]]] = [[], []]
    shard_of = {id: n for n in range(2) for id in works.store.open(images).table(n)["id"].to_pylist()}
    for winner, loser in made:
        row = {"id": content_id(winner, loser), "prompt_id": winner, "caption": CAPTIONS[winner], "winner_score": 1.0,
               "loser_score": 0.0, "winner_generator": "teacher", "loser_generator": "student",
               "margin": 1.0, "host": "", "source": "",
               "winner_id": ids[winner], "loser_id": ids[loser]}  # fmt: skip
        if shard_of[ids[winner]] == shard_of[ids[loser]]:
            shards[shard_of[ids[winner]]].append(row)
    pairs = seal(works.store, "pairs", [_shard(rows, pairs_schema.SCHEMA) for rows in shards], [images], stage="pair")
    with mock.patch.object(encode_pairs, "load_vae_of", return_value=Blocks()):
        ref = encode_pairs.encode_pairs(pairs, sealed_checkpoint(works.store), [images], config, works)
    return described(works.store, ref)


def _all_kept(store: Store, images: ArtifactRef) -> ArtifactRef:
    return kept_of(store, images, store.open(images).table()["id"].to_pylist())


def _shard(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> ShardOutput:
    return ShardOutput(pa.Table.from_pylist(list(rows), schema=schema), len(rows), schema)
