"""Files cut into ranges as the shards of a stage: how many there are, and which range each of them is."""

from collections.abc import Sequence

from lightgen.corpora.base import One, ordinals
from lightgen.corpora.ranges import Inventory, Place
from lightgen.errors import ConfigError, InputCorrupt

MAX_SHARDS = 99_999


def count_shards(stage: str, inventories: Sequence[Inventory]) -> int:
    """Shards of all ranges, one where there is none. Raises ConfigError for more than a version may have."""
    count = max(1, sum(len(one.ranges) for one in inventories))
    if count > MAX_SHARDS:
        raise ConfigError(f"{stage}: {count:,} shards, at most {MAX_SHARDS:,} are possible: raise shard_rows")
    return count


def ranges_of(
    stage: str, files: Sequence[One], inventories: Sequence[Inventory]
) -> list[tuple[One, int, Inventory, Place]]:
    """For each shard its file, the file's ordinal among those of its key, its inventory and its range.

    Raises InputCorrupt where other files lie there than the inventories were taken of.
    """
    if len(files) != len(inventories):
        raise InputCorrupt(
            f"{stage}: {len(files)} files lie where {len(inventories)} were found before: leave them alone"
        )
    return [
        (file, ordinal, inventory, place)
        for (file, ordinal), inventory in zip(ordinals(files), inventories, strict=True)
        for place in inventory.places()
    ]
