"""Which values of settings the cases of a golden leave out: each allowed value of each content setting has a case."""

from collections.abc import Iterable, Iterator, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic_core import PydanticUndefined

from lightgen.config import Config

# Where a model lies is no value: its files are.
PLACES = {"model", "revision", "subfolder", "tokenizer_subfolder", "folder", "path"}


def by_kind(cases: Iterable[Config]) -> dict[type[Config], list[Config]]:
    """All settings in the cases, those inside of others too, by their class."""
    found: dict[type[Config], list[Config]] = {}
    for one in _all(cases):
        found.setdefault(type(one), []).append(one)
    return found


def _all(value: Any) -> Iterator[Config]:
    if isinstance(value, Config):
        yield value
        yield from _all([getattr(value, name) for name in type(value).model_fields])
    elif isinstance(value, dict):
        yield from _all(value.values())
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for part in value:
            yield from _all(part)


def left_out(kind: type[Config], cases: Sequence[Config]) -> Iterator[str]:
    """Every content setting of `kind` with what none of `cases` has of it."""
    for name, field in kind.model_fields.items():
        marks = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        if not marks.get("run") and name not in PLACES:
            values = [getattr(case, name) for case in cases]
            default = field.get_default(call_default_factory=True, validated_data=_SAMPLE)
            yield from (f"{name}: {said}" for said in _missing(field.annotation, values, default))


class _Sample(dict[str, Any]):
    """Stands for the fields before one whose default is made of them."""

    def __missing__(self, key: str) -> Any:
        return "x" if key == "column" else None


_SAMPLE = _Sample()


def _missing(annotation: Any, values: list[Any], default: Any) -> Iterator[str]:
    options = list(_options(annotation))
    if NoneType in options:
        yield from (f"no case has {state}" for state, there in _states(values) if not there)
    literal = [value for option in options if get_origin(option) is Literal for value in get_args(option)]
    yield from (f"no case has {value!r}" for value in literal if value not in values)
    if bool in options:
        yield from (f"no case has {value}" for value in (True, False) if value not in values)
    settings = any(isinstance(option, type) and issubclass(option, Config) for option in options)
    if literal or settings or bool in options or default is PydanticUndefined:
        return
    if all(value in (None, default) for value in values):
        yield f"every case has {default!r}"


def _states(values: list[Any]) -> list[tuple[str, bool]]:
    return [("null", None in values), ("a value in place of null", any(value is not None for value in values))]


def _options(annotation: Any) -> Iterator[Any]:
    """The members of a union; what is annotated is taken out."""
    if get_origin(annotation) is Annotated:
        yield from _options(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for option in get_args(annotation):
            yield from _options(option)
    else:
        yield annotation
