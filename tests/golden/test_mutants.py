"""Every golden notices a small change of what it guards; the null control changes nothing."""

import pytest

from lightgen.errors import LightgenError
from tests.golden.mutants import BEYOND, MUTANTS, QUICK, Mutant
from tests.golden.stored import changes, outputs, read
from tests.golden.subject import Subject
from tests.golden.subjects import BY_NAME, SUBJECTS

pytestmark = pytest.mark.xdist_group("golden")
EACH = [
    pytest.param(
        name, mutant, id=f"{name}: {mutant.new.strip()[:40]}", marks=[] if name in QUICK else [pytest.mark.long]
    )
    for name, mutants in MUTANTS.items()
    for mutant in mutants
]


def test_every_subject_has_a_mutant() -> None:
    assert {one.name for one in SUBJECTS} - set(MUTANTS) == set(BEYOND)
    assert set(QUICK) <= set(MUTANTS)


def test_every_mutant_has_its_line() -> None:
    """Most mutants live in the long form alone, where a line that moved would be missed late."""
    for mutants in MUTANTS.values():
        for mutant in mutants:
            mutant.source()


@pytest.mark.parametrize(("name", "mutant"), EACH)
def test_a_changed_source_changes_the_output(name: str, mutant: Mutant) -> None:
    with mutant.alive():
        assert _noticed(BY_NAME[name])


def _noticed(subject: Subject) -> bool:
    """Whether outputs are no longer the stored ones, or the program itself refuses what it made of the same input."""
    try:
        return bool(changes(subject, read(subject), outputs(subject)))
    except LightgenError:
        return True


@pytest.mark.parametrize("name", QUICK[:3])
def test_a_source_that_is_only_read_again_changes_nothing(name: str) -> None:
    """The null control: the machinery of mutants itself is not what goldens notice."""
    subject, mutant = BY_NAME[name], MUTANTS[name][0]
    with Mutant(mutant.module, mutant.old, mutant.old).alive():
        assert changes(subject, read(subject), outputs(subject)) == []
    assert changes(subject, read(subject), outputs(subject)) == []
