"""What the versions of a store have taken: seconds and bytes a unit, by stage, by what decides them, and by device."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightgen.errors import LightgenError, RefNotFound
from lightgen.generators.restore import checkpoint_config
from lightgen.operations.forecast import Forecast
from lightgen.operations.step import Step
from lightgen.storage.store import KINDS, Store
from lightgen.storage.version import Version
from schemas.canonical import canonical_json
from schemas.documents import Plan, Provenance, Receipt

NEWEST = 12  # versions of each kind that are looked at
# Settings that decide how long a unit takes; of stages that are not named here, none does.
DECIDING = {
    "generate": ("generator", "height_px", "width_px"),
    "score": ("scorer",),
    "encode": ("size_px", "vae", "flips", "std_bits"),
    "texts": ("encoder", "codec"),
    "pretrain": ("noise_copies",),
    "align": ("objective", "noise_copies"),
    "reference": ("noise_copies",),
}
TRAINS = ("pretrain", "align")


@dataclass(frozen=True)
class Rate:
    """What a unit of a stage took: seconds of one device and bytes; on which device, and which version says so."""

    seconds: float
    bytes: float
    device: str
    source: str


def rates_of(store: Store) -> dict[bytes, Rate]:
    """The rate of the newest version of each kind of work. Reads manifests and provenance, no rows."""
    found: dict[bytes, Rate] = {}
    for version in _newest(store):
        measured = _trained(store, version) if version.plan.stage in TRAINS else _counted(store, version)
        if measured is not None:
            found.setdefault(*measured)
    return found


def rate_so_far(store: Store, plan: Plan, receipts: Sequence[Receipt]) -> Rate | None:
    """The rate of a version that is not finished; None where it tells nothing yet."""
    units = sum(one.rows_in - one.rows_reused for one in receipts)
    seconds = sum(one.seconds for one in receipts if one.rows_in > one.rows_reused)
    if not units or plan.stage in TRAINS:
        return None
    size = sum(entry.bytes for one in receipts for entry in one.files)
    rows = sum(one.rows_out for one in receipts)
    device = _device(store, plan, receipts[0])
    return Rate(seconds / units, size / rows if rows else 0.0, device, f"its first {len(receipts)} shards")


def key_of_step(step: Step, forecast: Forecast) -> bytes | None:
    """What a step's rate is looked up by; None where models are not pinned, or sizes not known."""
    try:
        content = step.config.content()
    except LightgenError:
        return None
    if step.stage not in TRAINS:
        return _key(step.stage, content)
    student = forecast.student_of(step)
    return _key(step.stage, content, student.config.model_dump(mode="json"), student.tokens) if student else None


def _counted(store: Store, version: Version) -> tuple[bytes, Rate] | None:
    rate = rate_so_far(store, version.plan, version.manifest.shards)
    if rate is None:
        return None
    return _key(version.plan.stage, version.plan.config), Rate(rate.seconds, rate.bytes, rate.device, str(version.ref))


def _trained(store: Store, version: Version) -> tuple[bytes, Rate] | None:
    speed = json.loads(version.file("speed.json").read_bytes())
    if not speed.get("images_per_s"):
        return None
    config = checkpoint_config(version)
    patch = config.student.patch
    _, rows, columns = config.encoders.latent_shape
    student = config.student.model_dump(mode="json")
    key = _key(version.plan.stage, version.plan.config, student, (rows // patch) * (columns // patch))
    device = _device(store, version.plan, version.manifest.shards[0])
    return key, Rate(speed["processes"] / speed["images_per_s"], 0.0, device, str(version.ref))


def _newest(store: Store) -> Iterator[Version]:
    for kind in KINDS:
        names = dict.fromkeys(entry.version for entry in reversed(store.log(kind)) if entry.op == "publish")
        for name in list(names)[:NEWEST]:
            try:
                yield Version(store.files, store.manifest(kind, name))
            except RefNotFound:
                continue


def _key(stage: str, content: Mapping[str, Any], *more: object) -> bytes:
    named = {name: content.get(name) for name in DECIDING.get(stage, ())}
    return canonical_json(json.loads(json.dumps([stage, named, *more])))


def _device(store: Store, plan: Plan, receipt: Receipt) -> str:
    where = f"{plan.folder}/provenance/{receipt.provenance}.json"
    try:
        return Provenance.model_validate_json(store.files.read(where)).device
    except FileNotFoundError:
        return ""
