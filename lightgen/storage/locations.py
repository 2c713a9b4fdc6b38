"""Where the weights lie that versions name by digest only: hints beside the versions, part of none.

A hint says under which path or id a model was opened last. Whoever uses it checks the digest, so a wrong hint costs
nothing, and a model that was moved is found again once a recipe names its new place.
"""

import json

from lightgen.errors import ConfigError, ModelError
from lightgen.seeds import content_id
from lightgen.storage.store import Store
from lightgen.storage.weights import Weights, weights_identity
from schemas.canonical import canonical_json

FIELDS = ("model", "revision", "subfolder", "tokenizer_subfolder")


def remember(store: Store, weights: Weights) -> None:
    """Keep where the weights are."""
    place = canonical_json({name: getattr(weights, name) for name in FIELDS if hasattr(weights, name)})
    store.files.create(f"models/{_key(weights_identity(weights))}/{content_id(place.decode())}.json", [place])


def locate(store: Store, identity: dict[str, object], sort: type[Weights] = Weights) -> dict[str, str | None]:
    """Fields of `Weights`: a place where the weights of `identity` are now. Raises ModelError.

    `sort` says by its settings which files are the model, where that are others than weights.
    """
    folder = f"models/{_key(identity)}"
    places = [json.loads(store.files.read(f"{folder}/{name}")) for name in store.files.names(folder)]
    for place in places:
        if _holds(place, identity, sort):
            return place
    known = ", ".join(sorted({str(place["model"]) for place in places})) or "nowhere known"
    raise ModelError(
        f"the weights {identity} are not where they were ({known}); put them back, or run a recipe that names their "
        "place up to stage encode: nothing is computed again"
    )


def _holds(place: dict[str, str | None], identity: dict[str, object], sort: type[Weights]) -> bool:
    if "sha256" not in identity:
        return True  # a commit of a hub is what it is
    fields = {name: place[name] for name in ("model", "revision", "subfolder") if name in place}
    weights = _Place.model_validate(place) if "tokenizer_subfolder" in place else sort.model_validate(fields)
    try:
        return weights_identity(weights) == identity
    except (ConfigError, ModelError):  # nothing is there now, or nothing that may be loaded
        return False


class _Place(Weights):
    """A place of an encoder whose tokenizer lies in a folder of its own."""

    tokenizer_subfolder: str = ""

    @property
    def folders(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.subfolder, self.tokenizer_subfolder)))


def _key(identity: dict[str, object]) -> str:
    return content_id(identity)
