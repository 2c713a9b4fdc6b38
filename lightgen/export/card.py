"""`README.md`: the dataset card of the Hugging Face hub. Programs read its front matter, people read the rest."""

from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from lightgen.errors import escaped
from lightgen.export.facts import Facts, size_category, slug, used
from lightgen.export.features import dtype, meaning
from lightgen.export.rows import Rows

COUNTS = {
    "generators": ("Rows by generator", "generator"),
    "sides": ("Rows by generator", "of the winner", "of the loser"),
    "sizes": ("Rows by size", "width in px", "height in px"),
}
SHOWN = 50  # lines of a table; the rest is added up
CELL = 200  # characters


def card(rows: Rows, facts: Facts) -> str:
    """The card as text."""
    matter = yaml.safe_dump(_matter(rows, facts), sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{matter}---\n\n" + "\n".join(_text(rows, facts))


def _matter(rows: Rows, facts: Facts) -> dict[str, Any]:
    """What the hub and `datasets` read."""
    matter: dict[str, Any] = {"license": facts.licence}
    if facts.licence == "other":
        matter["license_name"] = slug("-and-".join(facts.licences))[:80]
    return matter | {
        "pretty_name": facts.name,
        "task_categories": list(facts.words.tasks),
        "size_categories": [size_category(facts.rows)],
        "tags": ["lightgen", facts.version.ref.kind, "croissant"],
        "configs": [{"config_name": "default", "data_files": [{"split": facts.how.split, "path": facts.pattern}]}],
        **({"dataset_info": _info(rows, facts)} if facts.how.format == "parquet" else {}),
    }


def _info(rows: Rows, facts: Facts) -> dict[str, Any]:
    """`datasets` refuses a folder with other columns, or with other counts of rows."""
    pictures = [{"name": name, "dtype": "image"} for name in rows.pictures]
    held = sum(file.held for file in facts.files)
    return {
        "features": [*pictures, *({"name": field.name, "dtype": dtype(field.type)} for field in rows.schema)],
        "splits": [{"name": facts.how.split, "num_bytes": held, "num_examples": facts.rows}],
        "download_size": facts.bytes,
        "dataset_size": held,
    }


def _text(rows: Rows, facts: Facts) -> Iterator[str]:
    ref = facts.version.ref
    yield f"# {facts.name}\n"
    files = "one file" if len(facts.files) == 1 else f"{len(facts.files):,} files"
    yield f"{facts.words.title}: {facts.rows:,} rows in {files}, {facts.bytes:,} bytes.\n"
    yield f"{facts.words.row} **What is not here:** {facts.words.lacks}\n"
    yield f"This folder was written from version `{ref.kind}@{ref.version}` of a LightGen store."
    yield f"Its content is `{ref.content}`, and its rows have the fingerprint `{ref.fingerprint}`.\n"
    yield "## Read it\n"
    yield _read_it(rows, facts)
    yield "## Columns\n"
    yield from _columns(rows, facts)
    yield from _contents(facts)
    yield "## Sources and licences\n"
    yield from _sources(facts)
    yield "## How it was made\n"
    yield from _made(facts)


def _read_it(rows: Rows, facts: Facts) -> str:
    if facts.how.format == "webdataset":
        last = f"{len(facts.files) - 1:05d}"
        urls = f"data/{facts.how.split}-{{00000..{last}}}-of-{len(facts.files):05d}.tar"
        return _python("import webdataset", f'rows = webdataset.WebDataset("{urls}", shardshuffle=False).decode("pil")')
    return _python(
        "from datasets import load_dataset", f'rows = load_dataset(".", split="{facts.how.split}")', "print(rows[0])"
    ) + _python("import duckdb", f"print(duckdb.sql(\"select count(*) from 'data/{facts.how.split}-*.parquet'\"))")


def _python(*lines: str) -> str:
    return "\n".join(["```python", *lines, "```", ""])


def _columns(rows: Rows, facts: Facts) -> Iterator[str]:
    pictures = [(name, "image", "the file as it was sealed, byte for byte") for name in rows.pictures]
    if facts.how.format == "webdataset":
        yield "A sample has its pictures, `json` with the columns below, and `txt` with the caption.\n"
    columns = [(field.name, dtype(field.type), meaning(field)) for field in rows.schema]
    yield from _table(("column", "type", "meaning"), [*pictures, *columns])


def _contents(facts: Facts) -> Iterator[str]:
    for name, (title, *columns) in COUNTS.items():
        if name in facts.counts:
            yield f"## {title}\n"
            yield from _table((*columns, "rows"), _counted(facts, name))


def _sources(facts: Facts) -> Iterator[str]:
    if facts.how.licence:
        yield f"The publisher gives the whole under {_cell(facts.how.licence)}.\n"
    if "sources" not in facts.counts:
        yield "These rows carry no source and no licence of their own.\n"
        return
    yield "Each row carries its source, and the licence that its corpus was said to have.\n"
    yield from _table(("source", "licence", "rows"), _counted(facts, "sources"))


def _made(facts: Facts) -> Iterator[str]:
    yield "Stages in their order. A row that went in came out or was refused; refused rows are not in this folder.\n"
    yield from _table(
        ("stage", "with", "revision", "seed", "rows in", "rows out", "refused", "version"),
        [
            (one.plan.stage, used(one), one.plan.revision, one.plan.seed, f"{one.manifest.rows.taken:,}",
             f"{one.rows:,}", f"{one.manifest.rows.rejected:,}", f"`{one.ref}`")
            for one in facts.lineage
        ],
    )  # fmt: skip
    yield from _kept_apart(facts)
    refused = [
        (one.plan.stage, f"`{one.ref}`", reason, f"{count:,}")
        for one in facts.lineage
        for reason, count in sorted(one.reject_reasons.items(), key=lambda item: (-item[1], item[0]))
    ]
    if refused:
        yield "Refused, by reason:\n"
        yield from _table(("stage", "version", "reason", "rows"), refused)
    yield "Settings of each stage, with the corpora, models and generators that it used:\n"
    for one in facts.lineage:
        settings = yaml.safe_dump(one.plan.config, sort_keys=True, allow_unicode=True, width=1000)
        yield f"`{one.plan.stage}`, `{one.ref}`\n\n```yaml\n{settings}```\n"


def _kept_apart(facts: Facts) -> Iterator[str]:
    """Against which evaluation lists captions were held; a stage that was given none says so."""
    for one in facts.lineage:
        lists: Any = one.plan.inputs.get("evaluation")
        if lists:
            yield f"`{one.plan.stage}` refused captions that were too like a prompt of these lists:\n"
            yield from _table(("list", "prompts", "digest"), [(e["source"], e["prompts"], e["digest"]) for e in lists])
        elif lists is not None:
            yield f"`{one.plan.stage}` was given no evaluation list: captions of a test may be among these rows.\n"


def _counted(facts: Facts, name: str) -> list[tuple]:
    counts = facts.counts[name]
    rest = sum(count for _, count in counts[SHOWN:])
    shown = [(*(part or "not known" for part in key), f"{count:,}") for key, count in counts[:SHOWN]]
    blank = ("",) * (len(counts[0][0]) - 1) if counts else ()
    return [*shown, (f"{len(counts) - SHOWN:,} others", *blank, f"{rest:,}")] if rest else shown


def _table(names: Sequence[str], lines: Sequence[Sequence[object]]) -> Iterator[str]:
    yield "| " + " | ".join(names) + " |"
    yield "| " + " | ".join("---" for _ in names) + " |"
    for line in lines:
        yield "| " + " | ".join(_cell(value) for value in line) + " |"
    yield ""


def _cell(value: object) -> str:
    """Text from outside breaks no table and becomes no markup."""
    text = " ".join(escaped(value, CELL).split()).replace("\\", "\\\\").replace("|", "\\|")
    return text.replace("<", "&lt;").replace("[", "\\[")
