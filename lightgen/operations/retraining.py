"""Whether the student of a recipe is to be trained again. The store alone says so, so a kill loses nothing."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from lightgen.errors import RefNotFound
from lightgen.operations.lineage import ancestors
from lightgen.recipe import Recipe
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from schemas.ref import ArtifactRef, Kind

Training = tuple[int, dict]  # seed and settings


@dataclass(frozen=True)
class Due:
    """How many captions are new to every finished student of a recipe, and what follows from it, in a sentence."""

    new: int
    reason: str


def due(store: Store, recipe: Recipe, captions: ArtifactRef) -> Due:
    """Look for captions that no finished student of `recipe` has seen. Captions that were removed are nothing new.

    A student is finished when every resolution is trained, with the seed and the training settings of `recipe`. It has
    seen the captions that it comes from, and others that `select` made the very same prompts of.

    Reads the manifests of all checkpoints, all prompts and their ancestors. Holds the `caption_id`s of two versions.
    """
    wanted: list[Training] = [(recipe.seed, config.content()) for config in recipe.pretrain]
    trained = [(version, _trainings(store, version)) for version in _published(store, "checkpoint")]
    finished = [version for version, trainings in trained if trainings == wanted]
    unseen = _unseen(store, captions, finished)
    if not unseen:
        return Due(0, f"nothing new: finished students have seen every caption of {captions}")
    begun = [len(t) for v, t in trained if t and t == wanted[: len(t)] and captions.version in _lineage(store, v)]
    if begun:
        return Due(unseen, f"the training on {captions} goes on: {max(begun)} of {len(wanted)} resolutions are done")
    if not finished:
        return Due(unseen, f"no student of recipe {recipe.name!r} is finished yet")
    return Due(unseen, f"{unseen:,} of the {captions.rows:,} captions in {captions} are new to every finished student")


def _unseen(store: Store, captions: ArtifactRef, finished: list[Version]) -> int:
    """How many captions none of `finished` has seen; one that is repeated counts once, wherever it stands."""
    ids = _texts(store.open(captions))
    for version in _seen(store, finished):
        if ids.num_rows:
            ids = ids.join(_texts(version), keys="caption_id", join_type="left anti")
    return ids.num_rows


def _texts(captions: Version) -> pa.Table:
    return captions.table(columns=["caption_id"]).group_by("caption_id").aggregate([])


def _seen(store: Store, finished: list[Version]) -> Iterator[Version]:
    """Captions that the students come from, and those that led to prompts of the same content."""
    lineages = [_lineage(store, version) for version in finished]
    chosen = {one.ref.fingerprint for lineage in lineages for one in lineage.values() if one.ref.kind == "prompts"}
    alike = [version for version in _published(store, "prompts") if version.ref.fingerprint in chosen]
    found = {
        name: one for lineage in (*lineages, *(_lineage(store, v) for v in alike)) for name, one in lineage.items()
    }
    return (version for version in found.values() if version.ref.kind == "captions")


def _trainings(store: Store, checkpoint: Version) -> list[Training]:
    """The trainings that led to a pretrained student, first to last; none for an aligned one."""
    if checkpoint.plan.stage != "pretrain":
        return []
    starts = [one for one in _lineage(store, checkpoint).values() if one.ref.kind == "checkpoint"]
    return [(one.plan.seed, one.plan.config) for one in starts]


def _lineage(store: Store, version: Version) -> dict[str, Version]:
    """A version and its ancestors by name, parents first; none where an ancestor has been collected."""
    try:
        return {one.ref.version: one for one in ancestors([version.ref], store)}
    except RefNotFound:
        return {}


def _published(store: Store, kind: Kind) -> Iterator[Version]:
    """Every published version, retired ones too; not those that have been collected."""
    for name in sorted({entry.version for entry in store.log(kind)}):
        try:
            yield store.open(f"{kind}@{name}")
        except RefNotFound:
            continue
