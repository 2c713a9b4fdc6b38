"""A sweep of learning rates: one version a rate, healths side by side, nothing done twice."""

import pytest

from lightgen.errors import ConfigError
from lightgen.operations.sweep import Exam, sweep
from lightgen.scorers.scenes import ScenesDetectorConfig
from lightgen.stages.evaluate import EvaluateConfig
from tests.lightgen.conftest import Chain
from tests.lightgen.sealed import pairs
from tests.lightgen.stages.test_align import LOOP, align_config


def test_higher_rates_move_further_and_judges_compare_with_the_start(chain: Chain, sample) -> None:
    config = align_config(sample, loop=LOOP.model_copy(update={"steps": 6}))
    made, _ = pairs(chain.store, 6)
    tried = sweep(chain.checkpoint, made, config, [1e-3, 1e-5], chain.context())
    assert [one.lr for one in tried] == [1e-5, 1e-3]
    low, high = (one.health for one in tried)
    assert 0 < abs(low["margin_p50"]) < abs(high["margin_p50"])
    assert abs(low["winner_drift"]) < abs(high["winner_drift"])
    assert tried[0].checkpoint.version != tried[1].checkpoint.version
    judge = EvaluateConfig(detector=ScenesDetectorConfig(), sample=sample, samples_per_prompt=1, resamples=100)
    judged = sweep(chain.checkpoint, made, config, [1e-3], chain.context(), Exam(chain.prompts, judge))
    assert [one.lr for one in judged] == [0.0, 1e-3]
    assert judged[1].checkpoint == tried[1].checkpoint
    assert judged[0].overall is not None
    assert judged[0].gain is None
    assert judged[1].gain is not None
    assert judged[1].gain.low <= judged[1].gain.mean <= judged[1].gain.high


@pytest.mark.parametrize("rates", [[], [0.0], [1e-3, -1.0]], ids=str)
def test_rates_that_are_none_are_refused(chain: Chain, sample, rates: list[float]) -> None:
    with pytest.raises(ConfigError, match="rates must be positive"):
        sweep(chain.checkpoint, chain.checkpoint, align_config(sample), rates, chain.context())
