"""A sample of the captions that a recipe draws of: from its corpora, or from the version that a store has of them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lightgen.corpora.by_lot import Lot, drawn
from lightgen.corpora.cleaning import clean_all
from lightgen.corpora.tokenizer import counter
from lightgen.decisions.chosen_coverage import TRIED
from lightgen.decisions.concepts import all_concepts
from lightgen.decisions.far_apart import terms_of
from lightgen.decisions.growth import LEAST
from lightgen.decisions.plain_column import plain_column
from lightgen.decisions.shingles import BLOCK, Shingles, Words, joined, read_words
from lightgen.errors import ConfigError, RefNotFound
from lightgen.operations.step import until
from lightgen.operations.steps import steps_of
from lightgen.operations.survey import survey
from lightgen.recipe import Recipe, Use
from lightgen.seeds import derive_seed
from lightgen.stages.select import SelectConfig
from lightgen.stages.source import SourceConfig, files_of
from lightgen.storage.store import Store, open_store
from lightgen.work import Context

SAMPLE = 200_000  # captions, where a recipe does not ask for so many that more are needed


@dataclass(frozen=True)
class Captions:
    """What a recipe draws of.

    sample: concepts of a sample of distinct captions, in random order
    terms: of the first TRIED of them
    held: how many distinct captions there are that may be drawn; `exact` says that this is no estimate
    place: the sealed version or the corpora they were read from
    """

    sample: Shingles
    terms: Shingles
    held: int
    exact: bool
    place: str

    @property
    def sampled(self) -> int:
        """Captions of the sample."""
        return len(self.sample.offsets) - 1


def captions_of(recipe: Recipe, store: Store | None, count: int | None) -> Captions:
    """A sample of the recipe's captions, of the sealed version where there is one.

    Memory: twice the sample, and what its concepts take. Raises ConfigError where there are not enough captions.
    """
    if recipe.source is None:
        raise ConfigError(f"recipe {recipe.name} has no `source`: it draws no captions, so no volume can be chosen")
    wanted = count or max(SAMPLE, (asked_of(recipe) or 0) // 2)
    seed = derive_seed(recipe.seed, "volume")
    sealed = _sealed(recipe, store)
    if sealed is not None:
        place, lot = sealed[0], drawn(sealed[1], wanted, seed)
        texts = lot.texts.cast(pa.large_string())
    else:
        assert isinstance(recipe.source, SourceConfig), "a version that is used is sealed"
        place = ", ".join(corpus.given for corpus in recipe.source.corpora)
        count_tokens = counter(recipe.source.tokenizer)
        lot = drawn(_raw(recipe.source), wanted, seed)
        cleaned = (clean_all(part, recipe.source, count_tokens).captions for part in _blocks(lot.texts))
        texts = pa.chunked_array(cleaned, pa.large_string()).combine_chunks().drop_null()
    held = round(lot.distinct * len(texts) / max(len(lot.texts), 1))
    _refuse_few(recipe, place, lot, len(texts), held, count)
    concepts = joined([all_concepts().found(_words(part)) for part in _blocks(texts)])
    if not (np.diff(concepts.offsets) > 1).any():
        raise ConfigError(
            f"{place}: no caption speaks of two concepts of our list, which is English; add lines "
            "to lightgen/decisions/concepts, or choose the volume without this curve"
        )
    return Captions(concepts, terms_of(_words(texts.slice(0, TRIED))), held, lot.exact, place)


def store_of(recipe: Recipe, store: str) -> Store | None:
    """The store, where there is one; a version that the recipe uses must be in it."""
    try:
        return open_store(store)
    except RefNotFound:
        if isinstance(recipe.source, Use):
            raise
        return None


def asked_of(recipe: Recipe) -> int | None:
    """Captions that a recipe asks for, where it says so."""
    return recipe.select.count if isinstance(recipe.select, SelectConfig) else None


def _sealed(recipe: Recipe, store: Store | None) -> tuple[str, Iterator[pa.LargeBinaryArray]] | None:
    """Which version of captions is there, and its texts."""
    if store is None:
        return None
    if isinstance(recipe.source, Use):
        ref = store.open(recipe.source.use).ref
    else:
        context = Context(store, recipe.seed, recipe.run, find_only=True)
        ref = survey(until(steps_of(recipe), ["source"]), context)[0].ref
    if ref is None:
        return None
    version = store.open(ref)
    columns = (version.table(shard, columns=["caption"])["caption"] for shard in range(version.n_shards))
    chunks = (chunk.cast(pa.large_binary()) for column in columns for chunk in column.chunks)
    return str(ref), chunks


def _raw(source: SourceConfig) -> Iterator[pa.LargeBinaryArray]:
    for file in files_of(source):
        for batch in file.batches():
            fine = np.ones(len(batch), bool)
            fine[list(batch.refused)] = False
            yield batch.text.filter(pa.array(fine))


def _blocks(texts: pa.Array) -> Iterator[pa.Array]:
    return (texts.slice(first, BLOCK) for first in range(0, len(texts), BLOCK))


def _words(texts: pa.Array) -> Words:
    return read_words(plain_column(texts.cast(pa.large_string())))


def _refuse_few(recipe: Recipe, place: str, lot: Lot, usable: int, held: int, count: int | None) -> None:
    if not usable:
        raise ConfigError(f"{place}: {lot.read:,} captions were read and none may be drawn; see `lightgen plan`")
    if usable < LEAST:
        fix = f"give --sample {LEAST:,} or more" if count is not None and held >= LEAST else "add captions that differ"
        raise ConfigError(f"{place}: a sample of {usable:,} distinct captions; a curve takes {LEAST:,} or more: {fix}")
    if count is not None and count > lot.distinct:
        raise ConfigError(f"--sample {count:,}: {place} hold {held:,} distinct captions; lower it, or leave it out")
