"""Keeps the present outputs as goldens: `python -m tests.golden.write [SUBJECT ...]`, without names all of them.

An output that changed is kept only where its number was raised. Where a case itself was rewritten and no result of the
library changed, delete the file of the subject first.
"""

import sys

from tests.golden.stored import changes, outputs, read, text_of, what_to_raise
from tests.golden.subject import Output, Subject
from tests.golden.subjects import BY_NAME, SUBJECTS


def keep(subject: Subject) -> str:
    """Writes the file of a subject, or says why not."""
    found = outputs(subject)
    if refused := _refused(subject, found):
        return refused
    text = text_of(subject, found)
    same = subject.file.exists() and subject.file.read_text(encoding="utf-8") == text
    subject.file.write_text(text, encoding="utf-8")
    return f"{subject.name}: {'as it was' if same else f'{len(found)} cases written'}"


def _refused(subject: Subject, found: dict[str, Output]) -> str:
    if not subject.file.exists():
        return ""
    stored = read(subject)
    changed = changes(subject, stored, found)
    if not changed or stored.raised(subject.numbers):
        return ""
    return f"{subject.name}: NOT WRITTEN: output changed; first {what_to_raise(subject, stored)}\n  " + "\n  ".join(
        changed
    )


def main(names: list[str]) -> int:
    """Exit code 1 where something was not written."""
    said = [keep(subject) for subject in ([BY_NAME[name] for name in names] or SUBJECTS)]
    print("\n".join(said))
    return int(any("NOT WRITTEN" in line for line in said))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
