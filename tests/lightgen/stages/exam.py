"""Draws and scores the test prompts as a recipe does; imported by path."""

from collections.abc import Mapping

from lightgen.model.sampling import SampleConfig
from lightgen.scorers.scenes import ScenesDetectorConfig
from lightgen.stages.evaluate import EvaluateConfig, evaluate
from lightgen.stages.generate import generate
from lightgen.stages.score import ScoreConfig, score
from lightgen.storage.version import Version
from schemas.ref import ArtifactRef
from tests.lightgen.conftest import Chain

TEACHER = {"teacher": {"kind": "generator", "generator": {"kind": "scenes"}, "size_px": 32}}
SCORER = ScoreConfig(scorer=ScenesDetectorConfig())


def exam_config(sample: SampleConfig, **changes: object) -> EvaluateConfig:
    """A quick exam."""
    settings = {
        "detector": {"kind": "scenes"}, "sample": sample, "models": TEACHER, "samples_per_prompt": 2, "resamples": 200,
    }  # fmt: skip
    return EvaluateConfig.model_validate(settings | changes)


def scores_of(
    chain: Chain, config: EvaluateConfig, students: Mapping[str, ArtifactRef], seed: int = 4
) -> dict[str, ArtifactRef]:
    """SCORES of every model of the exam, by its name in the report."""
    context, found = chain.context(seed), {}
    for name, drawing in config.generators(list(students)).items():
        needed = drawing.generator.draws_with_checkpoint
        drawn = generate(chain.prompts, drawing, context, students.get(name, chain.checkpoint) if needed else None)
        found[name] = score(drawn, SCORER, context)
    return found


def report_of(chain: Chain, config: EvaluateConfig, seed: int = 4) -> Version:
    """The report on teacher, fresh weights and the chain's student."""
    found = scores_of(chain, config, {"student": chain.checkpoint}, seed)
    return chain.store.open(evaluate(chain.prompts, found, config, chain.context(seed)))
