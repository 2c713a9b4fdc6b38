"""Goldens on another device than the CPU they were written on, for `lightgen bench gpu`."""

from tests.golden import given
from tests.golden.stored import changes, outputs, read
from tests.golden.subjects import BY_NAME


def check(name: str, device: str) -> str:
    """Where the outputs of a subject on `device` differ from the stored ones; empty where they agree."""
    subject, before = BY_NAME[name], given.DEVICE
    given.DEVICE = device
    try:
        return "; ".join(changes(subject, read(subject), outputs(subject)))
    finally:
        given.DEVICE = before
