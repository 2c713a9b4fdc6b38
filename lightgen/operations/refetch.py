"""A fetch tried again: a new version that has all of an earlier one, and what could not be had then for the moment."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lightgen.errors import ConfigError
from lightgen.fetch.states import PASSING
from lightgen.stages.fetch import STAGE, FetchConfig, fetch
from lightgen.storage.version import Version
from lightgen.work import Context
from schemas.ref import ArtifactRef


def refetch(ref: ArtifactRef | str, context: Context, how: Mapping[str, Any] | None = None) -> ArtifactRef:
    """The same links in the same snapshot, of which only failures that pass are asked for again.

    `how` are settings that enter no name, such as the concurrency; all others are those of the earlier fetch. A version
    without such failures is returned as it is. Raises ConfigError for one that was not fetched, or for other settings.
    """
    version = context.store.open(ref)
    if version.plan.stage != STAGE.name:
        raise ConfigError(f"{version.ref} was made by stage {version.plan.stage}: only what was fetched can be retried")
    if not passing(version):
        return version.ref
    config = FetchConfig.model_validate({**version.plan.config, **(how or {})})
    seeded = replace(context, seed=version.plan.seed)
    return fetch(version.parent("links"), config, seeded, version.ref)


def passing(version: Version) -> dict[str, int]:
    """Links that failed for a reason that passes, by reason."""
    return {reason: count for reason, count in version.reject_reasons.items() if reason in PASSING}
