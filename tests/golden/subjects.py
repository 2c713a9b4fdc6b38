"""All that has a golden. A new stage or member gets its subject in one of the modules of `cases`."""

from tests.golden.cases import (
    audits,
    captioners,
    comparisons,
    corpora,
    data_stages,
    decisions,
    encoders,
    generators,
    links,
    pictures,
    scorers,
    training,
    vlm,
)
from tests.golden.subject import Subject

FAMILIES = (
    corpora, links, pictures, generators, vlm, scorers, captioners, encoders, decisions, data_stages, comparisons,
    audits, training,
)  # fmt: skip
SUBJECTS: list[Subject] = [subject for family in FAMILIES for subject in family.subjects()]
BY_NAME: dict[str, Subject] = {subject.name: subject for subject in SUBJECTS}
