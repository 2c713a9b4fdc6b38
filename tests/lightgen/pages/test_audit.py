"""The page of an audit: whether the judge is vouched for and why not, with everything escaped and pictures within."""

import json
import re

import pytest

from lightgen.errors import AuditRefused
from lightgen.pages.audit import charts, headline, reasons
from lightgen.pages.gallery import gallery, thumbnails
from lightgen.scorers.scenes import ScenesDetectorConfig
from lightgen.stages.audit import AuditConfig, audit, read_audit
from lightgen.stages.probe import ProbeConfig, probe
from lightgen.stages.score import ScoreConfig, score
from lightgen.storage.store import Store, open_or_create
from lightgen.storage.version import Version
from lightgen.work import Context
from schemas.audit import Audit, Figure, Missing
from tests.lightgen.stages.audited import World, world

NASTY = "<script>alert('x')</script>\x1b[31m"


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> World:
    return world(open_or_create(str(tmp_path_factory.mktemp("audit") / "store")), 40)


def audited(given: World, config: AuditConfig) -> Version:
    """An audit of everything there is, refused or not."""
    store = given.store
    context = Context(store)
    shown = probe(given.pairs, [given.drawn], ProbeConfig(), context)
    scenes = ScoreConfig(scorer=ScenesDetectorConfig())
    votes = {row["id"]: {NASTY: float(place % 4 > 0), "ada": 1.0} for place, row in enumerate(given.rows[:20])}
    parents = {
        "pairs": given.pairs, "held-out-student": score(given.drawn, scenes, context), "probe_images": shown,
        "probes": score(shown, scenes, context), "second-student": given.judged(given.flipped(0.2, 3)),
        "human": given.labels(votes), "compare": given.compared([(0.8, 0.7 if n % 3 else 0.2) for n in range(40)]),
    }  # fmt: skip
    try:
        return store.open(audit(parents, config, context))
    except AuditRefused:
        return store.open(audit(parents, config, Context(store, find_only=True)))


BOUNDS = AuditConfig(
    least_accuracy=0.9, least_probe={"same": 0.9, "shuffled_caption": 0.4}, least_order=0.6, least_polarity=0.9,
    most_bias=0.5,
)  # fmt: skip


def test_a_refused_judge_has_a_page_that_says_why(given: World) -> None:
    version = audited(given, BOUNDS)
    page, found = gallery(version, given.store), read_audit(version)
    assert not found.vouched
    assert headline(found).startswith("Refused: ")
    for reason in reasons(found):
        assert reason.split(";")[0] in page
    assert "polarity was not measured" in page
    assert "not kept" in page
    assert "kept" in page
    assert page.count("<img") == 2 * len(found.examples) > 20
    assert 'src="data:,"' not in page


def test_a_judge_that_keeps_its_bounds_is_vouched_for_and_one_without_bounds_is_not(given: World) -> None:
    kept = read_audit(audited(given, AuditConfig(least_probe={"same": 0.9}, most_bias=0.9)))
    assert headline(kept) == "Vouched for: the judge keeps all that was asked of it."
    assert reasons(kept) == []
    assert headline(read_audit(audited(given, AuditConfig()))).startswith("Measured, and not vouched for")


def test_the_page_stands_alone_and_shows_hostile_names_as_text(given: World) -> None:
    version = audited(given, BOUNDS)
    page = gallery(version, given.store)
    assert page.count("<script") == 1, "that of the search box"
    ids = {one.pair_id for one in read_audit(version).examples}
    assert {id for id in ids if f'<code class="id">{id}</code>' in page} == ids, "whole, to copy"
    assert "\x1b" not in page
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;\\x1b[31m" in page
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?!data:)[a-z/]""", page)


def test_intervals_and_bounds_are_drawn_where_they_are(given: World) -> None:
    shares, beyond = charts(read_audit(audited(given, BOUNDS)))
    assert shares.count("<circle") == 7 + 1 + 2 + 1 + 2
    assert beyond.count("<circle") == 3
    assert shares.count('class="bound"') == 4


def test_headlines_name_a_few_and_count_the_rest(given: World) -> None:
    found = read_audit(audited(given, AuditConfig()))
    bad = [Figure(name="probe", group=f"p{n}", n=1, value=0, low=0, high=1, passed=False, bound=1) for n in range(4)]
    missing = Missing(setting="least_order", what="order", fix="ask")
    shown = found.model_copy(update={"figures": bad, "missing": [missing]})
    assert headline(shown) == "Refused: probe p0, probe p1, probe p2 and 2 more."
    assert headline(found.model_copy(update={"figures": [], "missing": [missing]})) == "Refused: order."


def test_audits_of_revision_1_are_read(given: World) -> None:
    """They call `mend` what to do about a bound on what could not be measured."""
    found = read_audit(audited(given, AuditConfig()))
    new = found.model_copy(update={"missing": [Missing(setting="least_order", what="order", fix="ask")]})
    text = new.model_dump_json()
    assert '"fix":"ask"' in text
    assert Audit.model_validate_json(text.replace('"fix":', '"mend":')) == Audit.model_validate_json(text) == new


def test_an_audit_has_no_thumbnails(given: World, tmp_path) -> None:
    store: Store = given.store
    assert thumbnails(audited(given, BOUNDS)) == []
    json.loads(store.open("audit@latest").file("audit.json").read_text())
