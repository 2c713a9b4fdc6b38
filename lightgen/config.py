"""Settings of stages and members, and which of them are part of a version's name."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

from lightgen.problems import Problem

# Marks of a field, given as `json_schema_extra`.
RUN: Final[dict[str, Any]] = {"run": True}  # how the work is done: speed, memory, acceptance; in no name
QUIET: Final[dict[str, Any]] = {"quiet": True}  # in the name only where it is not the default: a later addition


class Config(BaseModel):
    """A frozen value whose unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)
    # Settings of earlier releases by name, each with what to write in its place: for the message that refuses them.
    GONE: ClassVar[Mapping[str, str]] = {}

    def content(self) -> dict[str, Any]:
        """What decides a result, as JSON values; members of families by their identity.

        Fields marked RUN are left out. Fields marked QUIET are left out at their default, so that a new option does not
        rename what was made without it.
        """
        named = {name: getattr(self, name) for name, field in type(self).model_fields.items()}
        return {
            name: content_of(value) for name, value in named.items() if _counts(type(self).model_fields[name], value)
        }

    def problems(self) -> Iterator[Problem]:
        """What stands in the way of these settings, as far as they tell alone, `where` relative to them.

        Loads no model and writes nothing. Parts that are settings themselves are asked by `problems_of`.
        """
        yield from ()

    def rehearse(self, folder: Path) -> Self:
        """These settings for a rehearsal: tiny random models of the same classes and small files, made in `folder`.

        All else stays as it is. Equal settings give equal ones, and share what is made.
        """
        fields = type(self).model_fields
        return self.model_copy(update={name: _rehearsed(getattr(self, name), folder) for name in fields})

    def own_folder(self, folder: Path) -> Path:
        """Where in `folder` a rehearsal keeps what these settings need."""
        return folder / hashlib.sha256(repr((type(self).__name__, self)).encode()).hexdigest()[:16]


class Member(Config):
    """One member of a family: its settings, told apart by `kind`.

    `REVISION` is raised by hand when results change at equal settings; `tests/golden` notices a forgotten raise.
    """

    REVISION: ClassVar[int] = 1

    def identity(self) -> dict[str, Any]:
        """What names the member in a plan: kind, revision, content settings, and parts the same way. Loads nothing."""
        return {**self.content(), "revision": self.REVISION}


def content_of(value: Any) -> Any:
    """The part of `value` that decides a result, as a JSON value."""
    if isinstance(value, Member):
        return value.identity()
    if isinstance(value, Config):
        return value.content()
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): content_of(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [content_of(each) for each in value]
    return value


def problems_of(value: Any, key: str = "") -> Iterator[Problem]:
    """The problems of all settings in `value`, which stands at the dotted `key` of a recipe."""
    if isinstance(value, Config):
        yield from (problem.under(key) for problem in value.problems())
        value = {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        parts = [(str(name), part) for name, part in value.items()]
    else:
        parts = [(str(index), part) for index, part in enumerate(value)] if isinstance(value, list | tuple) else []
    for name, part in parts:
        yield from problems_of(part, f"{key}.{name}" if key else name)


def _rehearsed(value: Any, folder: Path) -> Any:
    """`value` with all settings in it rehearsed."""
    if isinstance(value, Config):
        return value.rehearse(folder)
    if isinstance(value, Mapping):
        return {name: _rehearsed(part, folder) for name, part in value.items()}
    return type(value)(_rehearsed(part, folder) for part in value) if isinstance(value, list | tuple) else value


def _counts(field: FieldInfo, value: Any) -> bool:
    marks = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    if marks.get("run"):
        return False
    return not (marks.get("quiet") and value == field.get_default(call_default_factory=True))
