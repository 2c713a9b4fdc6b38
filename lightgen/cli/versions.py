"""Commands that look into a store and tidy it."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from lightgen.cli.console import RefArgument, StoreOption, out
from lightgen.errors import ConfigError, RefNotFound, StoreCorrupt, escaped
from lightgen.progress import duration
from lightgen.storage import inspect
from lightgen.storage.rejects import reject_examples
from lightgen.storage.store import KINDS, Store, open_store
from lightgen.storage.verify import verify as verify_store
from lightgen.storage.version import Version

app = typer.Typer()
ROW_CHARACTERS = 500


@app.command("ls")
def list_versions(
    store: StoreOption, kind: Annotated[str | None, typer.Argument(help="captions, images, checkpoint, ...")] = None
) -> None:
    """List the versions of a store, oldest first. Exit 1 where something is lost or damaged; the rest is listed."""
    opened, broken = open_store(store), []
    table = Table("version", "ref", "fingerprint", "rows", "bytes", "age", "tags", box=None, header_style="bold")
    for each in [kind] if kind else KINDS:
        try:
            listed = inspect.list_versions(opened, each)
        except StoreCorrupt as error:
            broken.append(f"the log of {each} is damaged: {error}")
            continue
        broken += [f"{line.kind}@{line.version[:12]} is {line.trouble}" for line in listed if line.trouble]
        for line in listed:
            table.add_row(*_cells(line))
    out.print(table if table.row_count else "nothing is published in this store yet")
    for trouble in broken:
        out.print(f"[red]{escape(trouble)}[/]; `lightgen verify --all` names every damaged file")
    if broken:
        raise typer.Exit(1)


def _cells(line: inspect.Listed) -> tuple[str, ...]:
    states = {"retired": line.retired, "evicted": line.evicted, line.trouble or "": line.trouble is not None}
    marks = [*line.tags, *(name for name, holds in states.items() if holds)]
    counts = ["?" if count is None else f"{count:,}" for count in (line.rows, line.bytes)]
    age = duration(line.age.total_seconds())
    return (line.version[:12], f"{line.kind}@{line.n}", line.fingerprint[:12], *counts, age, escape(", ".join(marks)))


@app.command()
def show(
    ref: RefArgument,
    store: StoreOption,
    rejects: Annotated[bool, typer.Option("--rejects", help="show refused rows in place of the rest")] = False,
    reason: Annotated[str | None, typer.Option("--reason", help="refused rows of this reason only")] = None,
    limit: Annotated[int, typer.Option(min=0, help="refused rows shown of each reason")] = 3,
) -> None:
    """Show one version: recipe, parents, rows, rejects by reason, columns, files."""
    opened = open_store(store)
    if rejects or reason is not None:
        _rejects(opened.open(ref), reason, limit)
    else:
        _facts(inspect.show(opened, ref))


def _rejects(version: Version, reason: str | None, limit: int) -> None:
    """Refused rows by reason, the most frequent first."""
    counts = dict(sorted(version.reject_reasons.items(), key=lambda item: -item[1]))
    if reason is not None and reason not in counts:
        raise RefNotFound(f"{version.ref} refused no row for {reason!r}; there is: {', '.join(counts) or 'none'}")
    taken = version.manifest.rows.taken
    out.print(f"{version.ref}: {sum(counts.values()):,} of {taken:,} rows rejected")
    for name, rows in reject_examples(version, [reason] if reason else list(counts), limit).items():
        out.print(f"[bold]{counts[name]:>9,}[/]  {counts[name] / taken:>6.1%}  {escape(escaped(name))}")
        for row in rows:
            told = escaped(f"{row['id']}  {row['detail']}  {row['row']}", ROW_CHARACTERS)
            out.print(f"{'':>11}{escape(told)}")


def _facts(shown: inspect.Shown) -> None:
    rejected = shown.rows_in - shown.rows_out
    facts = {
        "version": f"{shown.ref.kind}@{shown.ref.version}",
        "fingerprint": shown.ref.fingerprint,
        "tags": ", ".join(shown.tags) or "none",
        "stage": f"{shown.stage}, seed {shown.seed}, {shown.n_shards} shards, {shown.seconds:,.1f} s",
        "rows": f"{shown.rows_in:,} in = {shown.rows_out:,} out + {rejected:,} rejected",
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
    for name, value in (("config", shown.config), ("inputs", shown.inputs)):
        out.print(f"[bold]{name}[/]")
        out.print_json(json.dumps(value))


@app.command()
def verify(
    store: StoreOption,
    ref: Annotated[str | None, typer.Argument(help="one version; leave out with --all")] = None,
    everything: Annotated[bool, typer.Option("--all", help="every version and every log")] = False,
) -> None:
    """Read every byte again and compare with the manifests; exit 1 names what is damaged."""
    if (ref is None) != everything:
        raise ConfigError("verify: give one REF, or --all")
    problems = verify_store(open_store(store), ref)
    for problem in problems:
        out.print(f"[red]damaged[/] {escape(str(problem))}")
    if problems:
        raise typer.Exit(1)
    out.print(f"[green]sound[/] {escape(ref or store)}")


@app.command()
def tag(
    ref: RefArgument, name: Annotated[str, typer.Argument(help="the newest use of a name wins")], store: StoreOption
) -> None:
    """Give a version a name, for `kind@tag:name`; a tagged version is never collected."""
    open_store(store).tag(ref, name)
    out.print(f"tagged {escape(ref)} {escape(name)}")


@app.command()
def retire(
    ref: RefArgument, store: StoreOption, undo: Annotated[bool, typer.Option("--undo", help="bring it back")] = False
) -> None:
    """Take a version out of `latest`; `gc` may collect it unless something younger or tagged was made from it.

    It stays retired when its recipe is run again; only --undo brings it back.
    """
    opened = open_store(store)
    if undo:
        opened.restore(ref)
    else:
        opened.retire(ref)
    out.print(f"{'restored' if undo else 'retired'} {escape(ref)}")


@app.command("gc")
def collect_garbage(
    store: StoreOption,
    grace_days: Annotated[float, typer.Option(min=0, help="nothing younger goes; longer than the longest run")] = 14.0,
    apply: Annotated[bool, typer.Option("--apply", help="delete; without it only print")] = False,
    evict: Annotated[
        bool, typer.Option("--evict", help="image files of untagged versions that a checkpoint drew; rows stay")
    ] = False,
) -> None:
    """List (or delete) what nothing needs: retired and unfinished versions and uploads, files that no receipt names."""
    from lightgen.storage.collect import collect, find_garbage

    opened = open_store(store)
    _uploads(opened, grace_days, apply)
    garbage = find_garbage(opened, grace_days)
    for one in garbage:
        out.print(f"{one.bytes:>14,}  {escape(one.why):<20}  {escape(one.key)}")
    done = "to delete" if garbage else "nothing to delete"
    if apply and garbage:
        result = collect(opened, garbage, grace_days)
        for kind, version in result.spared:
            out.print(f"spared {kind}@{version[:12]}: somebody works on it, named it or builds upon it by now")
        garbage, done = result.deleted, f"deleted; listed in {', '.join(result.tombstones) or 'no tombstone'}"
    out.print(f"{len(garbage):,} files, {sum(one.bytes for one in garbage):,} bytes: {done}")
    if evict:
        _evict(opened, grace_days, apply)


def _evict(store: Store, grace_days: float, apply: bool) -> None:
    from lightgen.storage.evict import evict, find_evictable

    found = find_evictable(store, grace_days)
    for one in found:
        if apply:
            evict(store, one)
        out.print(f"{one.bytes:>14,}  {'drawn by a student':<20}  {one.version.ref}")
    done = ("evicted" if apply else "to evict") if found else "nothing to evict"
    out.print(f"{len(found):,} versions, {sum(one.bytes for one in found):,} bytes of images: {done}")


def _uploads(store: Store, grace_days: float, apply: bool) -> None:
    from lightgen.storage.collect import stale_uploads

    for upload in stale_uploads(store, grace_days):
        if apply:
            store.files.abort(upload)
        done = "aborted" if apply else "to abort"
        out.print(f"{'':>14}  {'upload cut short':<20}  {escape(upload.key)}: {done}")


@app.command()
def diff(a: RefArgument, b: RefArgument, store: StoreOption) -> None:
    """Rows that are only in A, only in B, or changed."""
    found = inspect.diff(open_store(store), a, b)
    for sign, keys in (("+", found.added), ("-", found.removed), ("~", found.changed)):
        for key in keys[:20]:
            out.print(f"{sign} {escape(key)}")
        if len(keys) > 20:
            out.print(f"{sign} ... and {len(keys) - 20:,} more")
    out.print(f"{len(found.added):,} added, {len(found.removed):,} removed, {len(found.changed):,} changed")


@app.command()
def trace(
    id: Annotated[str, typer.Argument(help="id of a row, or its first 8 or more digits")], store: StoreOption
) -> None:
    """Follow a row: what it was made from, and what was made of it; rejected rows are found too."""
    from lightgen.storage.trace import trace as follow

    relation = ""
    for step in follow(open_store(store), id):
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
