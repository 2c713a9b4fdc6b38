"""The encoded bytes of kept images, found through the parents of a KEPT version."""

from lightgen.errors import StoreCorrupt
from lightgen.storage.store import Store
from lightgen.storage.version import Version


def images_of(kept: Version, store: Store) -> Version:
    """The IMAGES version that `kept` was chosen from."""
    found = [parent for parent in kept.parents if parent.kind == "images"]
    if not found:
        raise StoreCorrupt(f"{kept.ref} has no images among its parents; it was not written by stage dedup")
    return store.open(found[0])


def read_shard(images: Version, kept: Version, shard: int, only: set[str] | None = None) -> dict[str, bytes]:
    """File bytes of the shard's kept images by id, in the order of the images; of those in `only` where given."""
    ids = set(kept.table(shard, columns=["id"]).column("id").to_pylist())
    ids = ids if only is None else ids & only
    found = {id: _image(members) for id, members in images.samples(shard) if id in ids} if ids else {}
    missing = sorted(ids - found.keys())
    if missing:
        raise StoreCorrupt(f"{images.ref} shard {shard}: image {missing[0]} of {kept.ref} is not there")
    return found


def _image(members: dict[str, bytes]) -> bytes:
    return next(data for extension, data in members.items() if extension != "json")
