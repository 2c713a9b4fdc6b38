"""The encoded bytes of images that a decision names by id."""

from lightgen.errors import StoreCorrupt
from lightgen.storage.version import Version


def files_of(images: Version, shard: int, ids: set[str]) -> dict[str, bytes]:
    """File bytes of the images `ids` of a shard, in its order. Raises StoreCorrupt where one is missing."""
    if not ids:
        return {}
    found = {id: _image(members) for id, members in images.samples(shard) if id in ids}
    missing = sorted(ids - found.keys())
    if missing:
        raise StoreCorrupt(f"{images.ref} shard {shard}: image {missing[0]} is not there")
    return found


def _image(members: dict[str, bytes]) -> bytes:
    return next(data for extension, data in members.items() if extension != "json")
