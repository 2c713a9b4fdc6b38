"""A recipe: the complete, validated settings of a whole run, from one YAML file."""

import difflib
import math
import re
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Self, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, Discriminator, Field, Tag, ValidationError, model_validator

from lightgen.config import RUN, Config
from lightgen.errors import ConfigError
from lightgen.recipe_yaml import read_yaml
from lightgen.scorers.config import ScorerConfig
from lightgen.scorers.pixels import PixelsConfig
from lightgen.stages.align import AlignConfig
from lightgen.stages.audit import AuditConfig
from lightgen.stages.compare import CompareConfig
from lightgen.stages.encode import EncodeConfig
from lightgen.stages.evaluate import EvaluateConfig
from lightgen.stages.fetch import FetchConfig
from lightgen.stages.filter import FilterConfig
from lightgen.stages.generate import GenerateConfig
from lightgen.stages.links import LinksConfig
from lightgen.stages.mix import MixConfig
from lightgen.stages.pair import LINKS, PairConfig
from lightgen.stages.pictures import PicturesConfig
from lightgen.stages.pretrain import PretrainConfig
from lightgen.stages.probe import ProbeConfig
from lightgen.stages.recaption import RecaptionConfig
from lightgen.stages.select import SelectConfig
from lightgen.stages.source import SourceConfig
from lightgen.stages.texts import TextsConfig
from lightgen.stages.verdicts import VerdictsConfig
from lightgen.work import RunConfig

RECIPES = Path(__file__).parents[1] / "recipes"
SECRET = re.compile(
    r"AKIA[0-9A-Z]{16}|hf_[A-Za-z0-9]{20,}|aws_secret\w*\s*[=:]|Bearer\s+\S{16,}|://[^/\s:@]+:[^/\s:@]+@|X-Amz-(Signature|Credential)="
)


class Use(Config):
    """A sealed version in place of a stage's settings: `use: images@tag:paid`."""

    use: str = Field(min_length=1, description="kind@latest, kind@3, kind@<role>, kind@<digest prefix>, kind@tag:name")


# Settings that stand in place of those of a stage, told by the only key that they have.
INSTEAD: dict[str, type[Config]] = {"use": Use, "mix": MixConfig}


def _either(value: Any) -> str:
    keys = set(value) if isinstance(value, dict) else set[str]()
    return next((key for key, kind in INSTEAD.items() if isinstance(value, kind) or keys == {key}), "made")


Made = TypeVar("Made", bound=Config)
OrUse = Annotated[Annotated[Made, Tag("made")] | Annotated[Use, Tag("use")], Discriminator(_either)]
Drawing = Annotated[
    Annotated[GenerateConfig, Tag("made")] | Annotated[MixConfig, Tag("mix")] | Annotated[Use, Tag("use")],
    Discriminator(_either),
]


class HeldOut(Config):
    """Captions that no student trains on: where they come from and which of them are used."""

    source: OrUse[SourceConfig] = Field(description="where they come from")
    select: OrUse[SelectConfig] = Field(description="which of them are used")


Scorers = dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], ScorerConfig]


class Links(Config):
    """Pictures of the web that are to win preference pairs: where their links come from, and what is made of them."""

    source: OrUse[LinksConfig] = Field(description="tables of links")
    fetch: OrUse[FetchConfig] = Field(description="how the pictures are fetched")
    score: Scorers = Field(default={"pixels": PixelsConfig()}, min_length=1, description="as that of the recipe")
    filter: OrUse[FilterConfig] = Field(default=FilterConfig(), description="which of them are used")
    recaption: OrUse[RecaptionConfig] = Field(description="what a picture shows, in place of the words found beside it")


class Audit(AuditConfig):
    """What is asked about a set of pairs before it may be trained on, and what it must show."""

    probe: ProbeConfig = Field(default=ProbeConfig(), description="pairs whose answer is known", json_schema_extra=RUN)
    second: ScorerConfig | None = Field(default=None, description="judge of another family", json_schema_extra=RUN)
    verdicts: VerdictsConfig | None = Field(default=None, description="what people said", json_schema_extra=RUN)
    compare: CompareConfig | None = Field(
        default=None, description="asked with both pictures, in both orders", json_schema_extra=RUN
    )


class Recipe(Config):
    """Settings of every stage; `encode[i]` feeds `pretrain[i]`, and `pretrain[i]` starts from checkpoint i-1.

    Parts that are left out end the run before them: a recipe of `source` and `select` makes prompts, and one of `test`
    and `evaluate` judges models that are there.
    """

    name: str = Field(description="what runs and reports call it")
    seed: int = Field(default=0, description="from which all random numbers of the run come")
    run: RunConfig = Field(default=RunConfig(), description="engine and workers; in no name")
    source: OrUse[SourceConfig] | None = Field(default=None, description="where captions come from")
    pictures: OrUse[PicturesConfig] | None = Field(
        default=None, description="pictures that exist, with their captions: in place of generated ones, or beside them"
    )
    select: OrUse[SelectConfig] | None = Field(default=None, description="which captions are drawn")
    generate: Drawing | None = Field(default=None, description="who draws the images: a teacher, or `mix`, several")
    score: Scorers = Field(
        default={"pixels": PixelsConfig()}, min_length=1, description="scorers by the name that rules call them"
    )
    filter: OrUse[FilterConfig] | None = Field(default=None, description="diversity deduplication by rules over scores")
    recaption: OrUse[RecaptionConfig] | None = Field(
        default=None, description="captions that are written for the images, in place of those they were drawn from"
    )
    texts: TextsConfig | None = Field(default=None, description="how the student reads captions")
    encode: list[EncodeConfig] = Field(default_factory=list, description="one a resolution")
    pretrain: list[OrUse[PretrainConfig]] = Field(
        default_factory=list, description="one a resolution; each goes on from the one before"
    )
    held_out: HeldOut | None = Field(default=None, description="captions of the preference pairs")
    links: Links | None = Field(default=None, description="pictures of the web, where they are to win the pairs")
    pair: PairConfig | None = Field(default=None, description="how preference pairs are made")
    audit: Audit | None = Field(default=None, description="of the pairs: without its consent they are not published")
    align: AlignConfig | None = Field(default=None, description="DPO on the pairs")
    control: AlignConfig | None = Field(default=None, description="plain fine-tune on the winners")
    shuffled_control: bool = Field(
        default=False, description="`align` once more, a coin saying which image of a pair is the winner"
    )
    test: HeldOut | None = Field(default=None, description="captions of the evaluation")
    evaluate: EvaluateConfig | None = Field(default=None, description="who is judged, by whom")

    @model_validator(mode="after")
    def _one_beginning(self) -> Self:
        if self.only_judges and not (self.evaluate and self.evaluate.models):
            raise ValueError("give `source` (captions that a generator draws) or `pictures` (pictures that exist)")
        if self.pictures is None:
            return self
        if self.source is None and (self.select is not None or self.generate is not None):
            raise ValueError("pictures are there already: leave select and generate out, or give source too")
        if self.source is not None and self.generate is None:
            raise ValueError("source beside pictures: give select and generate too, or leave source out")
        return self

    @property
    def only_judges(self) -> bool:
        """Whether it makes nothing to train on: others are judged."""
        return self.source is None and self.pictures is None

    @model_validator(mode="after")
    def _one_resolution_each(self) -> Self:
        if self.pretrain and len(self.pretrain) != len(self.encode):
            raise ValueError(
                f"encode has {len(self.encode)} entries and pretrain {len(self.pretrain)}: give one each a resolution"
            )
        return self

    @model_validator(mode="after")
    def _nothing_in_the_air(self) -> Self:
        captions = "links" if self.pair is not None and self.pair.winner == LINKS else "held_out"
        if self.shuffled_control and (self.align is None or self.align.objective != "dpo"):
            raise ValueError("shuffled_control is a control of DPO: align must be there, with objective dpo")
        for part, needed in {**NEEDED, "pair": ("pretrain", captions)}.items():
            there = {"generate"} if self.pictures is not None else set[str]()
            missing = [name for name in needed if not getattr(self, name) and name not in there]
            if getattr(self, part) and missing:
                raise ValueError(f"{part} needs {' and '.join(missing)}, which this recipe leaves out")
        return self


# What each part is made of; `pair` also of captions, and whose they are depends on who is to win.
NEEDED = {
    "generate": ("select",),
    "filter": ("generate",),
    "recaption": ("filter",),
    "encode": ("filter",),
    "texts": ("filter",),
    "pretrain": ("encode", "texts"),
    "audit": ("pair",),
    "align": ("pair",),
    "control": ("pair",),
    "evaluate": ("test",),
}


def load_recipe(name_or_path: str, overrides: dict[str, Any] | None = None) -> Recipe:
    """The recipe `name` of `recipes/`, or the file at a path, with `overrides` by dotted key ("generate.size_px").

    Raises ConfigError naming file, key and allowed values.
    """
    path = find_recipe(name_or_path)
    data = read_yaml(path)
    for key, value in (overrides or {}).items():
        _override(data, key, value)
    for key, text in _strings(data, ""):
        if SECRET.search(text):
            raise ConfigError(
                f"{path}: {key} looks like a secret (masked). Every version stores its recipe: use the environment"
            )
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{path}: " + "; ".join(_explain(item) for item in error.errors())) from None
    for key, number in _numbers(recipe.model_dump(mode="python"), ""):
        if not math.isfinite(number):
            raise ConfigError(f"{path}: {key} is {number}; give a finite number")
    return recipe


def find_recipe(name_or_path: str) -> Path:
    """The file that a recipe's name or path means; raises ConfigError listing what there is."""
    for path in (Path(name_or_path), Path("recipes") / f"{name_or_path}.yaml", RECIPES / f"{name_or_path}.yaml"):
        if path.is_file():
            return path
    known = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    near = difflib.get_close_matches(name_or_path, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"no recipe {name_or_path!r}: give a path, or one of {', '.join(known) or '(none)'}{hint}")


def _override(data: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    node: Any = data
    for number, part in enumerate(parents):
        is_list = isinstance(node, list)
        node = node[_index(node, part, key)] if is_list else _child(node, part, key, parents[:number])
    if isinstance(node, list):
        node[_index(node, last, key)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise ConfigError(f"override {key}: {'.'.join(parents)} is not a group of settings")


def _index(items: list[Any], part: str, key: str) -> int:
    """The place that `part` names in a list; -1 is the last, as in Python."""
    if not (part.removeprefix("-").isdecimal() and -len(items) <= int(part) < len(items)):
        raise ConfigError(f"override {key}: {part!r} is no place in a list of {len(items)}; give one from 0, or -1")
    return int(part)


def _child(node: Any, part: str, key: str, above: list[str]) -> Any:
    """The group `part`; one that the recipe leaves out is what it is by default where that is a list, else empty."""
    if not isinstance(node, dict):
        raise ConfigError(f"override {key}: nothing below {part!r}")
    return node[part] if part in node else node.setdefault(part, _default_list(above, part) or {})


def _default_list(above: list[str], part: str) -> list[Any]:
    """The default of a list of settings, as a recipe writes it."""
    kind: Any = Recipe
    for name in above:
        kind = _type_of(kind, int(name) if name.removeprefix("-").isdecimal() else name)
    fields = [one.model_fields.get(part) for one in _options(kind) if hasattr(one, "model_fields")]
    default = next((field.get_default(call_default_factory=True) for field in fields if field), None)
    return [one.model_dump(mode="json") for one in default] if isinstance(default, list | tuple) else []


def _explain(item: Any) -> str:
    where, model = _where(item["loc"])
    if item["type"] == "extra_forbidden":
        if model and issubclass(model, Config) and (instead := model.GONE.get(str(item["loc"][-1]))):
            return f"{where}: this setting is gone; {instead}"
        allowed = sorted(model.model_fields) if model else []
        near = difflib.get_close_matches(str(item["loc"][-1]), allowed, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"{where}: there is no such key; {hint}allowed are {', '.join(allowed)}"
    given = item.get("input")
    shown = f" (given {str(given)[:60]!r})" if not isinstance(given, dict | list) else ""
    return f"{where}: {item['msg']}{shown}"


def _where(loc: tuple[int | str, ...]) -> tuple[str, type[BaseModel] | None]:
    """A place in a recipe as its reader writes it, and the settings that hold the last key.

    pydantic names the members of unions too ("generate.made.generator.scenes.size"), which no recipe does.
    """
    shown: list[str] = []
    kind: Any = Recipe
    for number, part in enumerate(loc):
        member = _member(kind, part)
        if member is not None:
            kind = member
            continue
        shown.append(str(part))
        if number + 1 < len(loc):
            kind = _type_of(kind, part)
    models = [one for one in _options(kind) if isinstance(one, type) and issubclass(one, BaseModel)]
    return ".".join(shown) or "recipe", models[0] if len(models) == 1 else None


def _member(kind: Any, part: int | str) -> Any:
    """The member of a union that pydantic's `part` names; None where it is a key."""
    for one in _options(kind):
        instead = next((key for key, kind in INSTEAD.items() if one is kind), None)
        tag = instead or getattr(one, "model_fields", {}).get("kind", None)
        named = tag if isinstance(tag, str) else getattr(tag, "default", "made")
        if len(_options(kind)) > 1 and part == named:
            return one
    return None


def _options(kind: Any) -> list[Any]:
    """The settings that a value may be: the parts of a union, or the one."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, UnionType):
        return [option for part in get_args(kind) for option in _options(part) if option is not NoneType]
    return [kind]


def _type_of(kind: Any, part: int | str) -> Any:
    """The type of the value at `part` of a value of type `kind`."""
    for one in _options(kind):
        if isinstance(one, type) and issubclass(one, BaseModel) and part in one.model_fields:
            return one.model_fields[str(part)].annotation
        if get_origin(one) in (list, tuple, dict):
            return get_args(one)[-1] if get_args(one)[-1] is not Ellipsis else get_args(one)[0]
    return None


def _strings(node: Any, key: str) -> Iterator[tuple[str, str]]:
    yield from ((where, leaf) for where, leaf in _leaves(node, key) if isinstance(leaf, str))


def _numbers(node: Any, key: str) -> Iterator[tuple[str, float]]:
    yield from ((where, leaf) for where, leaf in _leaves(node, key) if isinstance(leaf, float))


def _leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for name, child in node.items():
            yield from _leaves(child, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list | tuple):
        for index, child in enumerate(node):
            yield from _leaves(child, f"{key}.{index}")
    else:
        yield key, node
