"""IMAGES + SCORES of one or two generators -> PAIRS: filtering of preference pairs by rules over scores.

As published the winner is a picture of the web, with a caption written for it, or the teacher's, and the loser the
student's (model_facts section 0 row 6, 3.1); with `winner: student` both are the student's own, so that nothing but
what the judge sees sets them apart. A decision: no pixel is opened. Memory: the narrow columns of one shard, and with
caps 300 bytes a pair of all shards, which are then paired twice.
"""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from lightgen.config import QUIET, RUN, Config
from lightgen.decisions.caps import Cap, capped
from lightgen.decisions.derive import (
    Answers,
    AnyDerive,
    DeriveConfig,
    Probabilities,
    derive,
    derived_names,
    with_derived,
)
from lightgen.decisions.pairing import ANY, CANDIDATES, Pairing, PairRules, make_pairs
from lightgen.decisions.rules import KEPT, Rule, apply_rules
from lightgen.engines.build import build
from lightgen.errors import ConfigError, StoreCorrupt
from lightgen.generators.restore import Weights
from lightgen.generators.student import StudentGeneratorConfig
from lightgen.model.sampling import SampleConfig
from lightgen.problems import Problem
from lightgen.scorers.config import ScorerConfig
from lightgen.stages.generate import GenerateConfig
from lightgen.storage.plans import Stage
from lightgen.storage.shards import Reject, ShardOutput
from lightgen.storage.version import Version
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.pairs import SCHEMA
from schemas.ref import ArtifactRef

STAGE = Stage("pair", "pairs", revision=3)
STUDENT, TEACHER, LINKS = "student", "teacher", "links"
NARROW = ["id", "prompt_id", "caption", "index"]
WHERE = ["host", "source"]
CAPPED = ["id", "caption", "margin", "host", "source"]
JUDGED = Answers | Probabilities  # verdicts with a value a question, which rules let pass


class PairConfig(Config):
    """Whose images are compared, who judges, and what makes one the better."""

    judge: ScorerConfig = Field(description="who scores the images", json_schema_extra=RUN)
    verdict: DeriveConfig | None = Field(
        default=None,
        description="how a judge's raw answers become right or wrong, and a score; null: by its kind",
    )
    passes: tuple[Rule, ...] | None = Field(
        default=None,
        description="verdicts answers and probabilities: what a right image must have; null: half of the best answer "
        "to each question",
    )
    winner: Literal["teacher", "student", "links"] = Field(
        default="teacher",
        description="student: a sample that passed, against one of the same caption that did not; links: a picture of "
        "the web, against samples of the caption that was written for it",
    )
    gap: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="least lead in score, a smaller one is a tie; null: a right image wins over a wrong one",
    )
    per_prompt: int | None = Field(
        default=None, ge=1, description="pairs of a prompt, those of the largest margins; null: all that it gives"
    )
    caps: tuple[Cap, ...] = Field(default=(), description="so that no host, source or kind of caption dominates")
    clusters: int = Field(
        default=100, ge=1, description="kinds of captions, for a cap on them", json_schema_extra=QUIET
    )
    samples_per_prompt: int = Field(
        default=1, ge=1, description="of the student; where the student wins, an even number", json_schema_extra=RUN
    )
    sample: SampleConfig = Field(default=SampleConfig(), description="how the student draws", json_schema_extra=RUN)
    weights: Weights = Field(
        default="ema", description="of the student; ema: their moving average", json_schema_extra=RUN
    )
    batch_size: int = Field(default=64, gt=0, description="images drawn together", json_schema_extra=RUN)
    max_reject_fraction: float = Field(
        default=1.0, gt=0, le=1, description="a good student leaves few telling pairs", json_schema_extra=RUN
    )

    @model_validator(mode="after")
    def _valid(self) -> "PairConfig":
        if self.winner == STUDENT and self.samples_per_prompt % 2:
            raise ValueError(f"pair.winner is student: samples_per_prompt must be even, not {self.samples_per_prompt}")
        return self

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`: a judge whose answers say nothing, rules on answers that it does not give."""
        try:
            how = self.how
        except ConfigError as error:
            yield Problem("recipe", "judge", str(error), "give a judge, or a verdict")
            return
        known = self.judge.ANSWERS.names
        missing = sorted({*(how.columns if isinstance(how, JUDGED) else [how.column])} - set(known))
        if missing:
            what = f"{self.judge.kind} gives {', '.join(known)}, not {', '.join(missing)}"
            yield Problem("recipe", "verdict", what, "name what it gives")
            return
        columns = [*known, *derived_names(how)]
        missing = sorted({rule.column for rule in self.rules} - set(columns))
        if missing:
            what = f"there are {', '.join(columns)}, and no {', '.join(missing)}"
            yield Problem("recipe", "passes", what, "name what there is")

    @property
    def rules(self) -> tuple[Rule, ...]:
        """What a right image must have; nothing where the verdict itself says right or wrong."""
        if not isinstance(self.how, JUDGED):
            return ()
        return half_of_the_best(self.how) if self.passes is None else self.passes

    @property
    def how(self) -> AnyDerive:
        """The verdict, where none is given that of the judge's kind."""
        found = self.verdict or self.judge.verdict
        if found is None:
            raise ConfigError(f"pair.judge is {self.judge.kind}, which says nothing of captions; take one that does")
        return found

    def generators(self, teacher: object) -> dict[str, GenerateConfig]:
        """What draws the held-out captions; `teacher` is the recipe's part `generate`. Raises ConfigError."""
        student = GenerateConfig(
            generator=StudentGeneratorConfig(weights=self.weights, sample=self.sample), format="png",
            samples_per_prompt=self.samples_per_prompt, batch=self.batch_size,
        )  # fmt: skip
        if self.winner != TEACHER:
            return {STUDENT: student}
        if not isinstance(teacher, GenerateConfig):
            raise ConfigError("pair.winner is teacher: give generate as settings, for the teacher draws the winners")
        # Weights by source are those of the training captions; held-out ones come from sources of their own.
        return {STUDENT: student, TEACHER: teacher.model_copy(update={"samples_by_source": {}})}


class _Work(Config):
    """The rules with the names of the generators, in the order of the parents."""

    names: tuple[str, ...]
    verdict: DeriveConfig
    passes: tuple[Rule, ...]
    rules: PairRules
    caps: tuple[Cap, ...]
    clusters: int
    max_reject_fraction: float = Field(json_schema_extra=RUN)


def half_of_the_best(how: AnyDerive) -> tuple[Rule, ...]:
    """Rules that half of the best answer to each question passes; none for verdicts that say right or wrong."""
    if isinstance(how, Answers):
        return tuple(Rule(column=name, least=how.best / 2) for name in how.columns)
    return tuple(Rule(column=name, least=0.5) for name in how.questions) if isinstance(how, Probabilities) else ()


def pair(
    images: Sequence[ArtifactRef], scores: Sequence[ArtifactRef], config: PairConfig, context: Context
) -> ArtifactRef:
    """Pairs of the images of each prompt: the student's, then those of whoever else is to win."""
    names = (STUDENT,) if config.winner == STUDENT else (STUDENT, config.winner)
    if len(images) != len(names) or len(scores) != len(names):
        raise ConfigError(f"pair.winner is {config.winner}: give images and scores of {' and '.join(names)}")
    source = _of_one_layout([context.store.open(ref) for ref in images])
    winner = ANY if config.winner == STUDENT else config.winner
    settings = _Work(
        names=names, verdict=config.how, passes=config.rules,
        rules=PairRules(winner=winner, gap=config.gap, per_prompt=config.per_prompt), caps=config.caps,
        clusters=config.clusters if any(cap.column == "cluster" for cap in config.caps) else 0,
        max_reject_fraction=config.max_reject_fraction,
    )  # fmt: skip
    parents = [*images, *scores]
    plan = STAGE.plan(settings, context.seed, parents, source.n_shards)
    per_pair = 2 if config.winner == STUDENT else 1
    needs = Needs(sort="decision", unit="pairs", total=source.rows // per_pair)
    return build(Work.of(plan, settings, parents, context, f"{__name__}:open", needs), context)


def _of_one_layout(images: Sequence[Version]) -> Version:
    """The first of the versions, whose shard i joins shard i of the others. Raises ConfigError where it cannot."""
    first, *others = images
    for other in others:
        if other.n_shards != first.n_shards:
            raise ConfigError(
                f"pair: {first.ref} has {first.n_shards} shards and {other.ref} {other.n_shards} shards; let both "
                "generators draw the same prompts"
            )
    return first


def open(work: Work, worker: Worker) -> MakeShard:
    """See `lightgen.work`."""
    settings = _Work.model_validate(work.config)
    versions = [worker.store.open(ref) for ref in work.parents]
    sides = list(zip(settings.names, versions[: len(versions) // 2], versions[len(versions) // 2 :], strict=True))

    def paired(shard: int) -> Pairing:
        drawn = [candidates(name, images, scores, shard, settings) for name, images, scores in sides]
        return make_pairs(pa.concat_tables(drawn), settings.rules)

    beyond = _beyond_caps(map(paired, range(versions[0].n_shards)), settings) if settings.caps else {}

    def make_shard(shard: int) -> ShardOutput:
        found = paired(shard)
        inside = pa.array([id not in beyond for id in found.pairs["id"].to_pylist()], pa.bool_())
        over = found.pairs.filter(pc.invert(inside)).to_pylist()
        rejects = [*found.rejects, *(Reject(row["id"], *beyond[row["id"]], row) for row in over)]
        pairs = found.pairs.filter(inside).select(SCHEMA.names).cast(SCHEMA)
        return ShardOutput(table=pairs, schema=SCHEMA, rejects=rejects, rows_in=found.rows_in)

    return make_shard


def _beyond_caps(shards: Iterable[Pairing], settings: _Work) -> dict[str, tuple[str, str]]:
    """Why pairs of all shards go beyond the caps, by id."""
    pairs = pa.concat_tables([one.pairs.select(CAPPED) for one in shards])
    return capped(pairs, settings.caps, settings.clusters)


def candidates(name: str, images: Version, scores: Version, shard: int, settings: _Work) -> pa.Table:
    """The images of one generator of a shard with what its scores make of them, as CANDIDATES.

    Images without a score are none: of what was fetched, only what was kept has a caption. Raises StoreCorrupt.
    """
    raw, fetched = scores.table(shard), images.plan.stage == "fetch"
    rows = images.table(shard, columns=["id", *(WHERE if fetched else ())])
    place = pc.index_in(raw["id"], rows["id"].combine_chunks())
    if place.null_count or (not fetched and raw.num_rows != rows.num_rows):
        raise StoreCorrupt(f"{scores.ref} shard {shard}: its rows are not those of {images.ref}")
    derived = derive(raw, settings.verdict)
    if isinstance(settings.verdict, JUDGED):
        judged = derived["mean"].is_valid().to_pylist()
        passed = (apply_rules(with_derived(raw, derived), settings.passes).rule == KEPT).tolist()
        right = [passes if known else None for passes, known in zip(passed, judged, strict=True)]
        score = derived["mean"]
    else:
        right, score = derived["correct"].to_pylist(), derived["share"]
    columns = {
        **{column: raw[column] for column in NARROW},
        **{column: rows[column].take(place) if fetched else [""] * raw.num_rows for column in WHERE},
        "generator": [name] * raw.num_rows,
        "score": score.cast(pa.float64()),
        "right": right,
        "unscored": derived["unscored"],
    }
    table = pa.table({column: columns[column] for column in CANDIDATES.names})
    return table.cast(CANDIDATES)
