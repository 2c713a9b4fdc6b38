"""A fetch tried again: a new version that has all of an earlier one, and what could not be had then for the moment."""

from dataclasses import replace

from lightgen.errors import ConfigError
from lightgen.fetch.states import PASSING
from lightgen.stages.fetch import STAGE, FetchConfig, fetch
from lightgen.storage.version import Version
from lightgen.work import Context
from schemas.ref import ArtifactRef


def refetch(ref: ArtifactRef | str, context: Context, config: FetchConfig | None = None) -> ArtifactRef:
    """The same links in the same snapshot, of which only failures that pass are asked for again.

    `config` says how (rate, patience, whom to write to); what names the version is that of the earlier fetch. A version
    without such failures is returned as it is. Raises ConfigError for one that was not fetched.
    """
    version = context.store.open(ref)
    if version.plan.stage != STAGE.name:
        raise ConfigError(f"{version.ref} was made by stage {version.plan.stage}: only what was fetched can be retried")
    if not passing(version):
        return version.ref
    how = FetchConfig.model_validate(version.plan.config) if config is None else config
    seeded = replace(context, seed=version.plan.seed)
    return fetch(version.parent("links"), how, seeded, version.ref)


def passing(version: Version) -> dict[str, int]:
    """Links that failed for a reason that passes, by reason."""
    return {reason: count for reason, count in version.reject_reasons.items() if reason in PASSING}
