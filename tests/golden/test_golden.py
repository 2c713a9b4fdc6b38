"""Results do not change by accident: every output is the stored one, or its number was raised."""

import gc
import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, get_args

import pytest
from pydantic import Field

from lightgen import stages
from lightgen.captioners.config import CaptionerConfig
from lightgen.config import QUIET, RUN, Config, Member
from lightgen.corpora.config import CorpusConfig
from lightgen.corpora.laion import LaionLinks
from lightgen.corpora.picture_config import PictureSetConfig
from lightgen.decisions.derive import DeriveConfig
from lightgen.encoders.text import TextConfig
from lightgen.encoders.vae import VaeConfig
from lightgen.generators.config import GeneratorConfig
from lightgen.scorers.config import ScorerConfig
from lightgen.storage.plans import Stage
from lightgen.vlm.config import VlmConfig
from tests.golden import subject as subjects
from tests.golden.compare import difference, plain, png
from tests.golden.given import picture
from tests.golden.settings import by_kind, left_out
from tests.golden.stored import Stored, outputs, text_of, verdict, verdict_now
from tests.golden.subject import Number, Subject, Tolerance
from tests.golden.subjects import SUBJECTS
from tests.golden.write import keep

pytestmark = pytest.mark.xdist_group("golden")
LinksConfig = Annotated[LaionLinks, "tables of links: there is one kind"]
FAMILIES = (
    GeneratorConfig, ScorerConfig, VlmConfig, CaptionerConfig, CorpusConfig, LinksConfig, PictureSetConfig, VaeConfig,
    TextConfig, DeriveConfig,
)  # fmt: skip
HERE = Path(__file__).parent


def named(chosen: Sequence[Subject]) -> Any:
    """A test for each subject."""
    return [pytest.param(one, id=one.name, marks=[pytest.mark.long] if one.long else []) for one in chosen]


@pytest.mark.parametrize("subject", named(SUBJECTS))
def test_the_output_is_the_stored_one(subject: Subject) -> None:
    said = verdict_now(subject)
    if said:
        # Members share code: whoever changed it learns every number at once.
        others = [other for other in SUBJECTS if not other.long and other is not subject]
        pytest.fail("\n".join(filter(None, [said, *map(verdict_now, others)])), pytrace=False)


# --- nothing is forgotten ---------------------------------------------------------------------------------------------


def members(family: Any) -> tuple[type[Config], ...]:
    """The members of a closed family."""
    union = get_args(family)[0]
    return get_args(union) or (union,)


def stage_modules() -> Iterator[ModuleType]:
    """Every stage."""
    for found in pkgutil.iter_modules(stages.__path__):
        module = importlib.import_module(f"lightgen.stages.{found.name}")
        if isinstance(getattr(module, "STAGE", None), Stage):
            yield module


def without_golden(owners: Sequence[Any]) -> list[str]:
    """Stages and members that no subject is about."""
    known = {owner for one in SUBJECTS for owner in one.owners} | {one.config for one in SUBJECTS}
    return [owner.__name__ for owner in owners if owner not in known]


def test_every_member_of_every_family_and_every_stage_has_a_golden() -> None:
    assert without_golden([one for family in FAMILIES for one in members(family)]) == []
    assert without_golden(list(stage_modules())) == []


def test_every_member_is_in_a_family() -> None:
    gc.collect()  # of classes that a test has made
    listed = {one for family in FAMILIES for one in members(family)}
    found = {one for one in _kinds(Member) if one.__module__.startswith("lightgen.")}
    assert {one.__name__ for one in found - listed} == set()


def _kinds(kind: type[Member]) -> Iterator[type[Member]]:
    """Subclasses that a recipe can name."""
    for below in kind.__subclasses__():
        if "kind" in below.model_fields:
            yield below
        yield from _kinds(below)


def test_a_new_member_without_a_golden_is_named() -> None:
    class Fresh(Member):
        kind: Literal["fresh"] = "fresh"

    assert without_golden([Fresh]) == ["Fresh"]


EVERYTHING = by_kind(case for one in SUBJECTS for case in one.settings().values())


@pytest.mark.parametrize("kind", sorted(EVERYTHING, key=lambda kind: kind.__name__))
def test_every_value_that_a_setting_may_have_has_a_case(kind: type[Config]) -> None:
    assert list(left_out(kind, EVERYTHING[kind])) == []


class Inner(Config):
    turn: Literal["left", "right"] = "left"


class Settings(Config):
    mode: Literal["a", "b"] = "a"
    switch: bool = False
    limit: int | None = None
    size: int = 3
    speed: int = Field(default=1, json_schema_extra=RUN)
    inner: Inner = Inner()
    many: tuple[Inner, ...] = ()


def test_values_without_a_case_are_told_one_by_one() -> None:
    assert list(left_out(Settings, [Settings()])) == [
        "mode: no case has 'b'", "switch: no case has True", "limit: no case has a value in place of null",
        "limit: every case has None", "size: every case has 3", "many: every case has ()",
    ]  # fmt: skip
    right = Inner(turn="right")
    whole = [Settings(), Settings(mode="b", switch=True, limit=1, size=4, inner=right, many=(Inner(), right))]
    assert list(left_out(Settings, whole)) == []
    assert by_kind(whole)[Inner] == [Inner(), right, Inner(), right]


def test_the_weights_are_small() -> None:
    assert sum(path.stat().st_size for path in (HERE / "weights").rglob("*") if path.is_file()) < 350_000


# --- what is said -----------------------------------------------------------------------------------------------------


class Painter(Member):
    REVISION = 1

    kind: Literal["painter"] = "painter"
    shade: int = 0
    gloss: int = Field(default=0, json_schema_extra=QUIET)


@pytest.fixture
def painter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Subject:
    """A subject whose outputs are stored in a folder of its own."""
    monkeypatch.setattr(subjects, "OUTPUTS", tmp_path)
    monkeypatch.setattr(Number, "of", lambda owner: Number("Painter.REVISION", "lightgen/painter.py", owner.REVISION))
    run = lambda config, folder: {"shade": config.shade + 0.5}  # noqa: E731  # replaced below
    made = Subject("generator painter", (Painter,), Painter, {"plain": {}, "dark": {"shade": 9}}, run)
    assert keep(made) == "generator painter: 2 cases written"
    return made


def stored(subject: Subject) -> Stored:
    from tests.golden.stored import read

    return read(subject)


def changed(subject: Subject) -> dict[str, Any]:
    return {"plain": {"shade": 0.5}, "dark": {"shade": 9.6}}


def test_an_unchanged_output_is_fine_whether_its_number_is_raised_or_not(painter: Subject, monkeypatch) -> None:
    assert verdict(painter, stored(painter), outputs(painter)) == ""
    monkeypatch.setattr(Painter, "REVISION", 2)
    assert verdict(painter, stored(painter), outputs(painter)) == ""


def test_a_changed_output_says_which_number_to_raise_where(painter: Subject) -> None:
    assert verdict(painter, stored(painter), changed(painter)) == (
        "generator painter: output changed; raise Painter.REVISION to 2 in lightgen/painter.py, or undo\n"
        "  case 'dark': .shade is '9.6' in place of '9.5'"
    )


def test_a_changed_output_is_not_kept_before_its_number_is_raised(painter: Subject, monkeypatch) -> None:
    before = painter.file.read_text()
    monkeypatch.setattr("tests.golden.write.outputs", changed)
    assert "NOT WRITTEN: output changed; first raise Painter.REVISION to 2" in keep(painter)
    assert painter.file.read_text() == before
    monkeypatch.setattr(Painter, "REVISION", 2)
    assert "its number is raised: keep it with" in verdict(painter, stored(painter), changed(painter))
    assert keep(painter) == "generator painter: 2 cases written"
    assert verdict(painter, stored(painter), changed(painter)) == ""
    monkeypatch.setattr(Painter, "REVISION", 1)
    assert "Painter.REVISION was lowered" in verdict(painter, stored(painter), changed(painter))


def test_a_case_that_is_new_is_to_be_written(painter: Subject) -> None:
    more = {**outputs(painter), "glossy": {"shade": 1.0}}
    assert "its cases are not those that are stored" in verdict(painter, stored(painter), more)


def test_a_subject_of_two_numbers_asks_for_both() -> None:
    both = Subject("verdict x", (Painter,), Painter, {"plain": {}}, lambda *_: 1)
    files = {"lightgen/stages/pair.py": 1, "lightgen/stages/evaluate.py": 3}
    numbers = [Number(f"the revision of STAGE in {file}", file, value) for file, value in files.items()]
    old = Stored({number.name: number.value for number in numbers}, {"plain": 0})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Subject, "numbers", property(lambda _: numbers))
        said = verdict(both, old, {"plain": 1})
    assert "raise the revision of STAGE in lightgen/stages/pair.py to 2 and raise the revision of STAGE in" in said
    assert "lightgen/stages/evaluate.py to 4, or undo" in said


# --- how outputs are compared -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({"a": 1.0}, {"a": 1.00001}, ""),
        ({"a": 1.0}, {"a": 1.001}, ".a is '1.001' in place of '1.0'"),
        ({"a": [1, 2]}, {"a": [1]}, ".a has 1 items in place of 2"),
        ({"a": 1}, {"b": 1}, ".a is gone"),
        ({"a": "x"}, {"a": "y"}, ".a is 'y' in place of 'x'"),
        ({"a": True}, {"a": 1}, ".a is '1' in place of 'True'"),
        ({"a": None}, {"a": 0.0}, ".a is '0.0' in place of 'None'"),
        ("nan", "nan", ""),
    ],
)
def test_floats_have_a_tolerance_and_nothing_else_has(before: Any, after: Any, said: str) -> None:
    assert difference(before, after, Tolerance()) == said


def test_pictures_are_compared_by_their_pixels() -> None:
    pixels = picture("scene-0")
    near = pixels.copy()
    near[3, 4] += 2
    assert difference(png(pixels), png(near), Tolerance(levels=2)) == ""
    assert "differ, by up to 2 levels" in difference(png(pixels), png(near), Tolerance(levels=1))
    assert "a picture of (32, 31, 3)" in difference(png(pixels), png(pixels[:, 1:]), Tolerance(levels=9))


def test_a_file_has_one_line_a_case(painter: Subject) -> None:
    text = text_of(painter, outputs(painter))
    assert text.splitlines()[2:4] == [' "dark": {"shade": 9.5},', ' "plain": {"shade": 0.5}']
    assert plain(0.1 + 0.2) == 0.3
