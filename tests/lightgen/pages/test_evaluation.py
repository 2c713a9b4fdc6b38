"""The page of a report: rendered from its rows and the images that were judged, alone, with every stage behind it."""

import io
import re

import pytest
from PIL import Image

from lightgen.pages.evaluation import report_grid, report_html
from lightgen.storage.version import Version
from tests.lightgen.conftest import Chain
from tests.lightgen.stages.exam import exam_config, report_of


@pytest.fixture(scope="module")
def report(chain: Chain, sample) -> Version:
    return report_of(chain, exam_config(sample))


def test_the_page_stands_alone_and_shows_every_stage(report: Version, chain: Chain) -> None:
    page = report_html(report, chain.store, each=2)
    assert page.count("<script") == 1, "that of the search box"
    assert not re.search(r"""(?:src|href|url)\s*[=(]\s*["']?(?!data:)[a-z/]""", page), "nothing is loaded from outside"
    assert page.count("<img") == 3 * 6 * 2
    # The report depends on the checkpoint and what it was made of; who judges the prompts saw other scores.
    for ref in (chain.prompts, chain.images, chain.kept, chain.vae, chain.features, chain.checkpoint):
        assert ref.version in page
    assert "too_long 1" in page
    assert "student: loss" in page


def test_more_exhibits_and_a_price_change_the_page_and_not_the_report(report: Version, chain: Chain) -> None:
    assert report_html(report, chain.store, each=1).count("<img") == 3 * 6
    assert "2.50 USD an hour" in report_html(report, chain.store, each=1, usd_per_hour=2.5)
    assert "report.json" in report.file_names
    assert not [name for name in report.file_names if name.endswith((".html", ".png"))], "pages are not sealed"


def test_the_grid_is_small_enough_for_a_readme(report: Version, chain: Chain) -> None:
    data = report_grid(report, chain.store)
    with Image.open(io.BytesIO(data)) as grid:
        assert grid.size[0] > 600
    assert len(data) < 300_000
