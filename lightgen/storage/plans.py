"""The recipe of a version, written down: its digest is the version's name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightgen.config import Config
from lightgen.errors import ConfigError
from lightgen.storage.documents import check_plan
from schemas.canonical import canonical_json
from schemas.documents import Parent, Plan
from schemas.ref import ArtifactRef, Kind


@dataclass(frozen=True)
class Stage:
    """A stage's name in plans. `revision` is raised by hand when its results change at equal settings."""

    name: str
    kind: Kind
    revision: int

    def plan(
        self,
        config: Config | Mapping[str, Any],
        seed: int,
        parents: Sequence[ArtifactRef],
        n_shards: int,
        inputs: Mapping[str, Any] | None = None,
    ) -> Plan:
        """The plan of a version; `inputs` are digests of what is read from outside of the store.

        Raises ConfigError for values that are not JSON.
        """
        try:
            plan = Plan(
                kind=self.kind,
                stage=self.name,
                revision=self.revision,
                config=config.content() if isinstance(config, Config) else dict(config),
                seed=seed,
                parents=[Parent(kind=one.kind, content=one.content, rows=one.rows) for one in parents],
                inputs=dict(inputs or {}),
                n_shards=n_shards,
            )
            canonical_json(plan.model_dump(mode="json"))
        except ValueError as error:
            raise ConfigError(f"the recipe of {self.kind} cannot be written down as JSON: {error}") from error
        check_plan(plan)
        return plan
