"""Reads the YAML of recipes strictly: what two readers could take for two things is refused, and bombs do not go off.

Scalars are those of YAML 1.2: `true` and `false` are the only booleans, so `off` is a word, and `1e-8` is a number.
"""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from lightgen.errors import ConfigError

MAX_BYTES = 1 << 20
MAX_NODES = 100_000  # with aliases written out
SCALARS = {
    "tag:yaml.org,2002:null": (r"(?:~|null|Null|NULL|)", ["~", "n", "N", ""]),
    "tag:yaml.org,2002:bool": (r"(?:true|True|TRUE|false|False|FALSE)", list("tTfF")),
    "tag:yaml.org,2002:int": (r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    "tag:yaml.org,2002:float": (
        r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)",
        list("-+0123456789."),
    ),
    "tag:yaml.org,2002:merge": (r"<<", ["<"]),
}
AMBIGUOUS = re.compile(
    r"[-+]?0[0-9_]+|[-+]?[0-9]+(?::[0-5]?[0-9])+|[-+]?0[xXbB][0-9a-fA-F_]+|[-+]?[0-9][0-9_]*_[0-9_]*"
)


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2, without twice the same key."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML reads it from the class

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Refuses a key that stands twice; merged keys may be overridden."""
        seen: dict[str, yaml.Node] = {}
        for key, _ in node.value:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                first = seen[key.value].start_mark.line + 1
                raise _At(key, f"the key {key.value!r} stands twice, in line {first} too: keep one")
            seen[str(key.value)] = key
        return super().construct_mapping(node, deep)


for _tag, (_pattern, _first) in SCALARS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})\Z"), _first)


class _At(yaml.YAMLError):
    """Something wrong at a node."""

    def __init__(self, node: yaml.Node, what: str) -> None:
        super().__init__(f"line {node.start_mark.line + 1}: {what}")


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a file. Raises ConfigError naming the line."""
    try:
        text = path.read_text(encoding="utf-8")
        if len(text) > MAX_BYTES:
            raise yaml.YAMLError(f"more than {MAX_BYTES:,} characters: this is no recipe")
        data = _read(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not a plain YAML file: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a recipe is a mapping of stages, not {type(data).__name__}")
    return data


def read_value(text: str) -> Any:
    """One value of a setting, as a recipe would have it. Raises ConfigError."""
    try:
        return _read(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{text!r} is not a YAML value: {error}") from None


def _read(text: str) -> Any:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node)
        return _written_out(loader.construct_document(node))
    finally:
        loader.dispose()


def _written_out(value: Any) -> Any:
    """A copy in which nothing is shared: a change of one part must not reach the others that stand for one alias."""
    if isinstance(value, dict):
        return {key: _written_out(part) for key, part in value.items()}
    return [_written_out(part) for part in value] if isinstance(value, list) else value


def _check(root: yaml.Node) -> None:
    """Refuses ambiguous numbers, loops of aliases, and more nodes than a recipe has, aliases written out."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node) -> int:
        if id(node) in open_nodes:
            raise _At(node, "an alias stands inside of what it means")
        if id(node) not in sizes:
            open_nodes.add(id(node))
            sizes[id(node)] = 1 + sum(map(size, _children(node)))
            open_nodes.discard(id(node))
        if sizes[id(node)] > MAX_NODES:
            raise _At(node, f"more than {MAX_NODES:,} values once aliases are written out")
        return sizes[id(node)]

    size(root)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    plain = isinstance(node, yaml.ScalarNode) and node.style is None
    if plain and AMBIGUOUS.fullmatch(str(node.value)):
        raise _At(
            node, f"{node.value} is one number to some readers and another to others: write it plainly, or quote it"
        )
    return []
