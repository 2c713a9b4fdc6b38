"""Every setting of a recipe: as a JSON schema for editors, and as a page of documentation."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from lightgen.recipe import Recipe

Schema = Mapping[str, Any]
MARKS: Final = ("title", "run", "quiet")  # of a property, for nobody but us
WORDS: Final = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
INTRODUCTION: Final = """# Every setting of a recipe

`lightgen schema --markdown` writes this page from the models that read recipes, and a test compares. `lightgen schema`
writes the same as a JSON schema. An editor with a YAML language server completes and checks a recipe whose first line
names that file:

```yaml
# yaml-language-server: $schema=recipe.schema.json
```

A version is named by its settings. The column **in the name** says by which. *yes*: it decides results. *if set*: it
does too, and is left out of the name at its default. *no*: it changes speed, memory, acceptance or looks, or it names
something that another step makes, whose content counts in its place.
"""


def json_schema() -> str:
    """The JSON schema of a recipe, for editors."""
    schema = Recipe.model_json_schema()
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A recipe of LightGen Distill"}
    return json.dumps(dialect | _without_marks(schema) | {"title": dialect["title"]}, indent=1) + "\n"


def _without_marks(node: Any, names: bool = False) -> Any:
    """`node` without marks; with `names` its keys are settings, one of which may be called like a mark."""
    if isinstance(node, list):
        return [_without_marks(part) for part in node]
    if not isinstance(node, dict):
        return node
    kept = {key: part for key, part in node.items() if names or key not in MARKS}
    return {key: _without_marks(part, key in ("properties", "$defs")) for key, part in kept.items()}


def markdown() -> str:
    """docs/recipe.md: a table of settings for each part, in the order in which a recipe has them."""
    schema = Recipe.model_json_schema()
    places = _places(schema)
    titles = {name: _title(schema["$defs"][name], paths) for name, paths in places.items() if name}
    parts = [INTRODUCTION]
    for name, paths in places.items():
        model = schema["$defs"][name] if name else schema
        parts.append(_section(model, paths, titles))
    return "\n".join(parts)


def undocumented() -> list[str]:
    """Settings without a description, as `Model.setting`; `kind` says which member of a family is meant, no more."""
    models = {"Recipe": Recipe.model_json_schema(), **Recipe.model_json_schema()["$defs"]}
    return [
        f"{model}.{name}"
        for model, schema in models.items()
        for name, setting in schema.get("properties", {}).items()
        if name != "kind" and not setting.get("description")
    ]


def _places(schema: Schema) -> dict[str, list[str]]:
    """Where in a recipe each model stands, "" being the recipe; in the order of a walk from the top."""
    places: dict[str, list[str]] = {"": [""]}

    def walk(model: Schema, path: str) -> None:
        for key, setting in model.get("properties", {}).items():
            for name, suffix in _references(setting, ""):
                where = f"{path}.{key}{suffix}" if path else f"{key}{suffix}"
                known = places.setdefault(name, [])
                known.append(where)
                if len(known) == 1:
                    walk(schema["$defs"][name], where)

    walk(schema, "")
    return places


def _references(setting: Schema, suffix: str) -> Iterator[tuple[str, str]]:
    """Models that a setting may hold, with what of a path leads to them."""
    if "$ref" in setting:
        yield setting["$ref"].rsplit("/", 1)[-1], suffix
    for option in (*setting.get("anyOf", ()), *setting.get("oneOf", ())):
        yield from _references(option, suffix)
    if isinstance(setting.get("items"), dict):
        yield from _references(setting["items"], f"{suffix}[]")
    for option in _by_name(setting):
        yield from _references(option, f"{suffix}.<name>")


def _by_name(setting: Schema) -> list[Schema]:
    """What a mapping by name holds."""
    options = [setting.get("additionalProperties"), *setting.get("patternProperties", {}).values()]
    return [option for option in options if isinstance(option, dict)]


def _title(model: Schema, paths: list[str]) -> str:
    kind = model.get("properties", {}).get("kind", {}).get("const")
    own = f"`kind: {kind}`" if kind else "`mix:`" if list(model.get("properties", {})) == ["mix"] else ""
    return ", ".join(filter(None, (f"`{paths[0]}`", own))) if paths[0] else "The recipe"


def _section(model: Schema, paths: list[str], titles: Mapping[str, str]) -> str:
    """One model: where it stands, what it is, and its settings."""
    _, *others = dict.fromkeys(paths)
    lines = [f"## {_title(model, paths)}", "", _plain(model.get("description", "")), ""]
    if others:
        lines += ["Also at " + ", ".join(f"`{path}`" for path in others) + ".", ""]
    settings = {name: value for name, value in model.get("properties", {}).items() if name != "kind"}
    if not settings:
        return "\n".join(lines)
    lines += ["| setting | allowed | default | in the name | what it is |", "| --- | --- | --- | --- | --- |"]
    required = model.get("required", [])
    for name, setting in settings.items():
        default = "required" if name in required else _default(setting)
        cells = (
            f"`{name}`",
            _allowed(setting, titles),
            default,
            _named(setting),
            _plain(setting.get("description", "")),
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def _plain(text: str) -> str:
    return " ".join(text.split())


def _named(setting: Schema) -> str:
    return "no" if setting.get("run") else "if set" if setting.get("quiet") else "yes"


def _default(setting: Schema) -> str:
    if "default" not in setting:
        return "see there"
    text = json.dumps(setting["default"])
    return f"`{text}`" if len(text) <= 40 else "see there"


def _allowed(setting: Schema, titles: Mapping[str, str]) -> str:
    """What a setting may be, in words."""
    options = [*setting.get("anyOf", ()), *setting.get("oneOf", ())]
    if options:
        return " or ".join(dict.fromkeys(_allowed(option, titles) for option in options))
    if "$ref" in setting:
        name = setting["$ref"].rsplit("/", 1)[-1]
        return "`use:` a version" if name == "Use" else _link(titles[name])
    if "enum" in setting:
        return ", ".join(f"`{value}`" for value in setting["enum"])
    if "const" in setting:
        return f"`{setting['const']}`"
    kind = setting.get("type")
    if kind == "array":
        return _list(setting, titles)
    if kind == "object":
        return "by name: " + (" or ".join(_allowed(option, titles) for option in _by_name(setting)) or "anything")
    return "null" if kind == "null" else WORDS.get(str(kind), "anything") + _range(setting)


def _link(title: str) -> str:
    """A link to a section, by the anchor that its title gets."""
    anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
    return f"[{title}](#{anchor})"


def _list(setting: Schema, titles: Mapping[str, str]) -> str:
    if "prefixItems" in setting:
        return f"list of {len(setting['prefixItems'])}: " + ", ".join(
            _allowed(e, titles) for e in setting["prefixItems"]
        )
    return "list of " + _allowed(setting.get("items", {}), titles)


def _range(setting: Schema) -> str:
    """Bounds of a number or of a text's length."""
    words = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    bounds = [f"{word} {setting[key]:g}" for key, word in words.items() if key in setting]
    if "pattern" in setting:
        bounds.append(f"like `{setting['pattern']}`")
    return f" {' '.join(bounds)}" if bounds else ""
