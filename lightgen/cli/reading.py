"""Commands that look into a store; with `--json` they print one JSON value and nothing else."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from lightgen.cli.console import JsonOption, RefArgument, StoreOption, out, print_json, print_whole
from lightgen.errors import ConfigError, RefNotFound, StoreCorrupt, escaped
from lightgen.progress import duration
from lightgen.storage import inspect
from lightgen.storage.rejects import reject_examples
from lightgen.storage.store import KINDS, Store, open_store
from lightgen.storage.verify import verify as verify_store

app = typer.Typer()
ROW_CHARACTERS = 500
SHOWN_KEYS = 20  # of each kind of difference, in text
TELLING = ("url", "file", "caption")  # columns that tell a person which row it is


@app.command("ls")
def list_versions(
    store: StoreOption,
    kind: Annotated[str | None, typer.Argument(help="captions, images, checkpoint, ...")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the versions of a store, oldest first. Exit 1 where something is lost or damaged; the rest is listed."""
    broken: list[str] = []
    listed = list(_listed(open_store(store), [kind] if kind else list(KINDS), broken))
    if as_json:
        versions = [asdict(line) | {"age": line.age.total_seconds()} for line in listed]
        print_json({"versions": versions, "troubles": broken})
    else:
        _table_of(listed, broken)
    if broken:
        raise typer.Exit(1)


def _listed(store: Store, kinds: list[str], broken: list[str]) -> Iterator[inspect.Listed]:
    """The versions of some kinds; what is wrong is added to `broken`."""
    for kind in kinds:
        try:
            listed = inspect.list_versions(store, kind)
        except StoreCorrupt as error:
            broken.append(f"the log of {kind} is damaged: {error}")
            continue
        broken += [f"{line.kind}@{line.version[:12]} is {line.trouble}" for line in listed if line.trouble]
        yield from listed


def _table_of(listed: list[inspect.Listed], broken: list[str]) -> None:
    names = ("version", "ref", "role", "fingerprint", "rows", "bytes", "age", "tags")
    table = Table(*names, box=None, header_style="bold")
    for line in listed:
        table.add_row(*_cells(line))
    print_whole(table if table.row_count else "nothing is published in this store yet")
    for trouble in broken:
        out.print(f"[red]{escape(trouble)}[/]; `lightgen verify --all` names every damaged file")


def _cells(line: inspect.Listed) -> tuple[str, ...]:
    states = {"retired": line.retired, "evicted": line.evicted, line.trouble or "": line.trouble is not None}
    marks = [*line.tags, *(name for name, holds in states.items() if holds)]
    counts = ["?" if count is None else f"{count:,}" for count in (line.rows, line.bytes)]
    age = duration(line.age.total_seconds())
    named = (line.version[:12], f"{line.kind}@{line.n}", escape(", ".join(line.roles)), line.fingerprint[:12])
    return (*named, *counts, age, escape(", ".join(marks)))


@app.command()
def rejects(
    ref: RefArgument,
    store: StoreOption,
    reason: Annotated[str | None, typer.Option("--reason", help="of this reason only")] = None,
    limit: Annotated[int, typer.Option(min=0, help="rows shown of each reason")] = 3,
    as_json: JsonOption = False,
) -> None:
    """Show the rows that a version refused, the most frequent reason first. --json prints them whole."""
    version = open_store(store).open(ref)
    counts = dict(sorted(version.reject_reasons.items(), key=lambda item: -item[1]))
    if reason is not None and reason not in counts:
        raise RefNotFound(f"{version.ref} refused no row for {reason!r}; there is: {', '.join(counts) or 'none'}")
    examples = reject_examples(version, [reason] if reason else list(counts), limit)
    if as_json:
        found = {name: {"count": counts[name], "examples": rows} for name, rows in examples.items()}
        print_json({"version": str(version.ref), "rows_in": version.manifest.rows.taken, "reasons": found})
        return
    taken = version.manifest.rows.taken
    out.print(f"{version.ref}: {sum(counts.values()):,} of {taken:,} rows rejected")
    for name, rows in examples.items():
        out.print(f"[bold]{counts[name]:>9,}[/]  {counts[name] / taken:>6.1%}  {escape(escaped(name))}")
        for row in rows:
            told = escaped(f"{_said(json.loads(row['row']))}  ({row['detail']})", ROW_CHARACTERS)
            out.print(f"{'':>11}{escape(told)}  [dim]{escape(escaped(row['id']))}[/]")


def _said(row: dict[str, Any]) -> str:
    """What tells a person which row it is; where no column does, all that it holds."""
    named = [str(row[name]) for name in TELLING if row.get(name)]
    return ": ".join(named) or ", ".join(f"{name} {value}" for name, value in row.items())


@app.command()
def show(ref: RefArgument, store: StoreOption, as_json: JsonOption = False) -> None:
    """Show one version: settings, parents, what it read, rows, rejects by reason, columns, files."""
    shown = inspect.show(open_store(store), ref)
    if as_json:
        print_json(_plain(shown))
    else:
        _facts(shown)


def _plain(shown: inspect.Shown) -> dict[str, Any]:
    columns = [{"name": name, "type": kind, **meaning} for name, kind, meaning in shown.columns]
    parents = [str(parent) for parent in shown.parents]
    made = [one.model_dump(mode="json") for one in shown.provenance]
    plain = {name: value for name, value in vars(shown).items() if name != "ref"}
    return {"version": str(shown.ref), **plain, "parents": parents, "provenance": made, "columns": columns}


def _facts(shown: inspect.Shown) -> None:
    rejected = shown.rows_in - shown.rows_out
    reused = f", {shown.rows_reused:,} of them taken over from other versions" if shown.rows_reused else ""
    facts = {
        "version": f"{shown.ref.kind}@{shown.ref.version}",
        "fingerprint": shown.ref.fingerprint,
        "role": ", ".join(shown.roles) or "none",
        "tags": ", ".join(shown.tags) or "none",
        "stage": f"{shown.stage}, seed {shown.seed}, {shown.n_shards} shards, {shown.seconds:,.1f} s",
        "rows": f"{shown.rows_in:,} in = {shown.rows_out:,} out + {rejected:,} rejected{reused}",
        "bytes": f"{shown.bytes:,}",
        "parents": ", ".join(str(parent) for parent in shown.parents) or "none",
    }
    for name, value in facts.items():
        out.print(f"[bold]{name:<12}[/] {escape(value)}")
    for one in shown.provenance:
        libraries = ", ".join(f"{name} {version}" for name, version in one.libraries.items())
        made = f"{one.device}, {one.host}, Python {one.python}, {libraries}, commit {one.commit or 'unknown'}"
        out.print(f"  made on   {escape(made)}")
    for reason, count in sorted(shown.reject_reasons.items(), key=lambda item: -item[1]):
        out.print(f"  rejected  {count:>8,}  {escape(reason)}")
    for column, kind, meaning in shown.columns:
        note = ", ".join(f"{key} {value}" for key, value in meaning.items())
        out.print(f"  column    {escape(column):<16} {escape(kind):<12} {escape(note)}")
    for file in shown.files:
        out.print(f"  file      {escape(file)}")
    for name, value in (("config", shown.config), ("inputs", shown.inputs), *shown.notes.items()):
        out.print(f"[bold]{name}[/]")
        out.print_json(data=value)


@app.command()
def verify(
    store: StoreOption,
    ref: Annotated[str | None, typer.Argument(help="one version; leave out with --all")] = None,
    everything: Annotated[bool, typer.Option("--all", help="every version and every log")] = False,
    as_json: JsonOption = False,
) -> None:
    """Read every byte again and compare it with the manifests. Exit code 1 names what is damaged."""
    if (ref is None) != everything:
        raise ConfigError("verify: give one REF, or --all")
    problems = verify_store(open_store(store), ref)
    if as_json:
        print_json({"verified": ref or store, "damaged": [asdict(problem) for problem in problems]})
    else:
        for problem in problems:
            out.print(f"[red]damaged[/] {escape(str(problem))}")
        if not problems:
            out.print(f"[green]sound[/] {escape(ref or store)}")
    if problems:
        raise typer.Exit(1)


@app.command()
def diff(a: RefArgument, b: RefArgument, store: StoreOption, as_json: JsonOption = False) -> None:
    """Rows that are only in A, only in B, or changed."""
    found = inspect.diff(open_store(store), a, b)
    if as_json:
        print_json(asdict(found))
        return
    for sign, keys in (("+", found.added), ("-", found.removed), ("~", found.changed)):
        for line in _some(keys):
            out.print(f"{sign} {escape(line)}")
    out.print(f"{len(found.added):,} added, {len(found.removed):,} removed, {len(found.changed):,} changed")


def _some(keys: list[str]) -> list[str]:
    """Few keys as they are; many names of tensors counted by part of the network; of many ids the first."""
    if len(keys) <= SHOWN_KEYS:
        return keys
    if all("." in key for key in keys):
        parts = Counter(".".join(key.split(".")[:2]) for key in keys)
        return [f"{part}: {count:,}" for part, count in parts.items()]
    return [*keys[:SHOWN_KEYS], f"... and {len(keys) - SHOWN_KEYS:,} more"]


@app.command()
def trace(
    row: Annotated[str, typer.Argument(help="id of a row, its first 8 or more digits, or a caption of several words")],
    store: StoreOption,
    as_json: JsonOption = False,
) -> None:
    """Follow a row: what it was made from, and what was made of it. Rejected rows are found too."""
    from lightgen.storage.trace import trace as follow

    steps = follow(open_store(store), row)
    if as_json:
        print_json([vars(step) | {"ref": str(step.ref)} for step in steps])
        return
    relation = ""
    for step in steps:
        if step.relation != relation:
            relation = step.relation
            out.print(f"[bold]{relation}[/]")
        values = ", ".join(f"{name} {value}" for name, value in step.row.items() if name != "id")
        where = f"{step.ref}" if step.shard is None else f"{step.ref} shard {step.shard}"
        told = escaped(f"{step.row.get('id', '')}  {values}", ROW_CHARACTERS)
        out.print(f"  {where}  {step.outcome}  {escape(told)}")


@app.command()
def gallery(
    ref: RefArgument,
    store: StoreOption,
    to: Annotated[Path | None, typer.Option("--to", help="file to write; by default KIND-DIGEST.html here")] = None,
    limit: Annotated[int, typer.Option(min=1, help="rows on the page")] = 120,
) -> None:
    """Write one self-contained HTML page about a version."""
    from lightgen.pages.gallery import gallery as page

    opened = open_store(store)
    version = opened.open(ref)
    path = to or Path(f"{version.ref.kind}-{version.ref.version[:12]}.html")
    path.write_text(page(version, opened, limit), encoding="utf-8")
    out.print(f"wrote {escape(str(path))}")
