"""The stored outputs of a subject, and what its present ones say of it."""

import json
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.golden.compare import difference, dump, plain
from tests.golden.subject import Number, Output, Subject

WRITE = "python -m tests.golden.write"


@dataclass(frozen=True)
class Stored:
    """What a file of `outputs` says: the numbers at which the outputs were written, and the outputs by case."""

    numbers: dict[str, int]
    cases: dict[str, Output]

    def raised(self, numbers: list[Number]) -> bool:
        """Whether all numbers are greater than when the outputs were written."""
        return all(number.value > self.numbers.get(number.name, 0) for number in numbers)


def read(subject: Subject) -> Stored:
    """The stored outputs."""
    data = json.loads(subject.file.read_text(encoding="utf-8"))
    return Stored(data["numbers"], data["cases"])


def text_of(subject: Subject, cases: dict[str, Output]) -> str:
    """The file of these outputs: one line a case."""
    head = dump({number.name: number.value for number in subject.numbers})
    lines = ",\n".join(f" {dump(name)}: {dump(output)}" for name, output in sorted(cases.items()))
    return f'{{"numbers": {head},\n"cases": {{\n{lines}\n}}}}\n'


def outputs(subject: Subject) -> dict[str, Output]:
    """The present output of every case."""
    found = {}
    for name, settings in subject.settings().items():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = plain(subject.run(settings, Path(folder)))
    return found


def changes(subject: Subject, stored: Stored, found: dict[str, Output]) -> list[str]:
    """The cases whose present output is not the stored one, each with its first difference."""
    said = {
        name: difference(stored.cases[name], output, subject.tolerance_of(name))
        for name, output in found.items()
        if name in stored.cases
    }
    return [f"case {name!r}: {what}" for name, what in said.items() if what]


def verdict(subject: Subject, stored: Stored, found: dict[str, Output]) -> str:
    """What is wrong with the outputs `found`, and what to do about it; empty if nothing is.

    A raised number with an unchanged output is fine.
    """
    lowered = [number for number in subject.numbers if number.value < stored.numbers.get(number.name, 1)]
    if lowered:
        return f"{subject.name}: {lowered[0].name} was lowered; versions of that number may hold other results"
    if set(stored.cases) != set(found):
        return f"{subject.name}: its cases are not those that are stored; `{WRITE} {subject.name!r}`"
    changed = changes(subject, stored, found)
    if not changed:
        return ""
    if stored.raised(subject.numbers):
        return f"{subject.name}: output changed, and its number is raised: keep it with `{WRITE} {subject.name!r}`"
    return f"{subject.name}: output changed; {what_to_raise(subject, stored)}, or undo\n  " + "\n  ".join(changed)


def what_to_raise(subject: Subject, stored: Stored) -> str:
    """The numbers of a subject that are not raised yet."""
    left = [number for number in subject.numbers if number.value <= stored.numbers.get(number.name, 0)]
    return " and ".join(number.raised() for number in left)


@cache
def verdict_now(subject: Subject) -> str:
    """The verdict on its present outputs, computed once a process."""
    if not subject.file.exists():
        return f"{subject.name}: there is no golden; write it with `{WRITE} {subject.name!r}`"
    return verdict(subject, read(subject), outputs(subject))
