"""`lightgen bench fetch`: both ways bring every picture of a server in another process."""

import pytest

from lightgen.bench.fetch import OURS, PLAIN, Setting, bench_fetch
from lightgen.errors import ConfigError


@pytest.mark.long
def test_every_way_is_measured_in_the_same_run():
    rates = bench_fetch(Setting(rows=100, side_px=64, latency_s=0.01, in_flight=16), None, rounds=1)
    assert [rate.name for rate in rates] == [OURS, PLAIN]
    assert rates[0].faster == rates[0].cheaper == (1.0, 1.0, 1.0)
    assert all(rate.images_per_s > 0 and rate.cpu_ms > 0 for rate in rates)


def test_a_python_without_img2dataset_is_told():
    import sys

    with pytest.raises(ConfigError, match="img2dataset failed in"):
        bench_fetch(Setting(rows=100, side_px=64), sys.executable, rounds=1)
