"""GenEval's folders from IMAGES, and reports on IMAGES that were drawn elsewhere."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from lightgen.errors import ConfigError
from lightgen.evaluation.geneval import Metadata, scene_meaning
from lightgen.evaluation.geneval_folder import read_metadata, write_folder
from lightgen.scorers.config import AnyScorer, ScorerConfig
from lightgen.stages.adopt import METADATA
from lightgen.stages.evaluate import EvaluateConfig, evaluate
from lightgen.stages.score import ScoreConfig, score
from lightgen.storage.pixels import BadImage, decode_image
from lightgen.storage.version import Version
from lightgen.texts import repaired
from lightgen.work import Context
from schemas.ref import ArtifactRef

Place = tuple[int, str, str]  # shard, id and format of an image


@dataclass(frozen=True)
class Exported:
    """What was written, and what was not."""

    prompts: int
    images: int
    without_images: int = 0
    unknown: int = 0


def export(images: Version, metadata: str | None, folder: Path) -> Exported:
    """IMAGES in GenEval's layout, prompts in the order of the metadata; without them captions must be scenes.

    A PNG is written byte for byte; other formats are decoded. Memory: the files of one prompt and a row an image.
    Raises ConfigError where the folder is there already or nothing fits, InputCorrupt for bad metadata.
    """
    known, _ = read_metadata(metadata)
    places: dict[str, dict[int, Place]] = {}
    for shard in range(images.n_shards):
        for row in images.table(shard, columns=["id", "caption", "index", "format"]).to_pylist():
            places.setdefault(repaired(row["caption"]), {})[row["index"]] = (shard, row["id"], row["format"])
    if not known:
        # A scene is told in several wordings, and each is a prompt of its own.
        scenes = {caption: scene_meaning(caption) for caption in places}
        known = {text: found.model_copy(update={"prompt": text}) for text, found in scenes.items() if found}
    drawn = [(caption, meaning) for caption, meaning in known.items() if caption in places]
    if not drawn:
        raise ConfigError(f"{images.ref}: none of its captions is in {metadata or 'the scene world'}")

    def prompts() -> Iterator[tuple[Metadata, dict[int, bytes]]]:
        for caption, meaning in drawn:
            of_prompt = sorted(places[caption].items())
            yield meaning, {index: _png(images, *place) for index, place in of_prompt}

    counts = list(write_folder(folder, prompts()))
    unknown = sum(len(of_prompt) for caption, of_prompt in places.items() if caption not in known)
    return Exported(len(counts), sum(counts), len(known) - len(drawn), unknown)


def read_detector(text: str) -> AnyScorer:
    """A scorer from its settings as a recipe has them. Raises ConfigError."""
    try:
        return TypeAdapter[AnyScorer](ScorerConfig).validate_python(yaml.safe_load(text))
    except (ValidationError, yaml.YAMLError) as error:
        raise ConfigError(f"detector {text!r}: {error}") from None


def judge(prompts: Version, images: ArtifactRef, detector: AnyScorer, name: str, context: Context) -> ArtifactRef:
    """The REPORT on IMAGES of adopted PROMPTS, by GenEval's rules. Raises ConfigError, and what the detector raises."""
    if METADATA not in prompts.file_names:
        raise ConfigError(f"{prompts.ref} holds no {METADATA}; take PROMPTS of `lightgen geneval import`")
    samples = 1 + max(context.store.open(images).table(columns=["index"])["index"].to_pylist(), default=0)
    found = score(images, ScoreConfig(scorer=detector), replace(context, role=f"judged-{name}"))
    settings = {"detector": detector, "verdict": detector.verdict, "samples_per_prompt": samples}
    config = EvaluateConfig.model_validate(settings | {"metadata": str(prompts.file(METADATA))})
    return evaluate(prompts.ref, {name: found}, config, context)


def _png(images: Version, shard: int, id: str, format: str) -> bytes:
    data = images.members_of(shard, [id])[id][format]
    if format == "png":
        return data
    pixels = decode_image(data)
    assert not isinstance(pixels, BadImage), "it was readable when it was sealed"
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()
