"""Commands that find out early: what stands in the way of a recipe and what it would take, and a run of it in small."""

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lightgen.cli.console import JsonOption, StoreOption, out, print_json
from lightgen.cli.running import RecipeArgument, SetOption, UntilOption, overrides_of
from lightgen.settings import quiet_libraries

if TYPE_CHECKING:
    from lightgen.operations.outlook import Line
    from lightgen.operations.preflight import Preflight
    from lightgen.problems import Problem

app = typer.Typer()
WIDTH = 150  # of the table where it is no terminal's
TITLES = {"recipe": "The recipe", "here": "Here", "machine": "The machine"}
MARKS = {"sealed": "[green]sealed[/]", "missing": "missing", "unknown": "[dim]unknown[/]"}


@app.command()
def plan(
    recipe: RecipeArgument,
    store: StoreOption,
    until: UntilOption = None,
    settings: SetOption = None,
    on: Annotated[str | None, typer.Option("--on", help="another machine: 8xH100, A100-40, ...")] = None,
    usd_per_hour: Annotated[
        float | None, typer.Option("--usd-per-hour", min=0, help="price of the machine; default: evaluate.usd_per_hour")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a recipe would make and take, and every problem in its way. Exit code 1 where there is one."""
    from lightgen.operations.machines import described
    from lightgen.operations.preflight import preflight
    from lightgen.recipe import load_recipe

    loaded = load_recipe(recipe, overrides_of(settings or []))
    found = preflight(loaded, store, until or [], described(on) if on else None, usd_per_hour)
    if as_json:
        print_json(_plain(found))
    else:
        _show(found)
    if not found.sound:
        raise typer.Exit(1)


@app.command()
def schema(
    as_markdown: Annotated[bool, typer.Option("--markdown", help="as a page: what each setting is")] = False,
) -> None:
    """Print every setting of a recipe as a JSON schema, by which editors complete and check one."""
    from lightgen.pages.recipe_reference import json_schema, markdown

    typer.echo(markdown() if as_markdown else json_schema(), nl=False)


@app.command()
def costs() -> None:
    """Print what the large recipes take on machines with eight GPUs, by formula, as the page docs/costs.md."""
    from lightgen.pages.costs import markdown

    typer.echo(markdown(), nl=False)


@app.command()
def rehearse(
    recipe: RecipeArgument,
    store: StoreOption,
    until: UntilOption = None,
    settings: SetOption = None,
    processes: Annotated[
        int | None, typer.Option("--processes", min=2, help="of each training on several; default: as written")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="leave the store in which it was made")] = False,
) -> None:
    """Run a whole recipe in small, with tiny random models and captions of its own, in a store that is thrown away."""
    from lightgen.operations.rehearsal import rehearse as go
    from lightgen.recipe import load_recipe

    quiet_libraries()
    loaded = load_recipe(recipe, overrides_of(settings or []))
    began, names = time.monotonic(), []
    for done in go(loaded, store, until or [], processes, keep):
        names.append(done.name)
        rejects = f", {done.rejected:,} rejects" if done.rejected else ""
        note = f"  [dim]{escape(done.note)}[/]" if done.note else ""
        out.print(f"{done.name:<28} {done.seconds:6.1f} s  {done.rows:>5,} rows{rejects}{note}")
    out.print(f"rehearsed: {len(names)} steps in {time.monotonic() - began:.0f} s")


def _show(found: "Preflight") -> None:
    out.print(f"{escape(found.recipe.name)} on {escape(found.machine.name)}")
    if found.lines:
        Console(highlight=False, width=max(out.width, WIDTH) if out.is_terminal else WIDTH).print(_table(found))
        out.print(_legend(found), style="dim")
    for place, title in TITLES.items():
        _show_problems(title, found.of(place))  # type: ignore[arg-type]
    _show_problems("Worth knowing", found.remarks)


def _table(found: "Preflight") -> Table:
    priced = found.usd_per_hour > 0 or any(line.fees for line in found.lines)
    table = Table("step", "state", box=None, header_style="bold")
    for name in ("rows", "size", "device-hours", "hours", *(["USD"] if priced else [])):
        table.add_column(name, justify="right")
    table.add_column("by")
    for line in found.lines:
        hours = None if line.seconds is None else line.seconds / 3600
        unknown = hours is None and not line.fees
        cost = [_number(None if unknown else (hours or 0.0) * found.usd_per_hour + line.fees)] if priced else []
        device_hours = None if line.device_seconds is None else line.device_seconds / 3600
        table.add_row(
            line.step.name, _state(line), _rows(line), _size(line.bytes), _number(device_hours), _number(hours), *cost,
            escape(line.by),
        )  # fmt: skip
    return table


def _state(line: "Line") -> str:
    """The state, and what is there of it."""
    detail = "" if line.found.state == "unknown" else line.found.detail
    return f"{MARKS[line.found.state]} [dim]{escape(detail)}[/]"


def _rows(line: "Line") -> str:
    if line.rows is None:
        return ""
    return f"{'≤ ' if line.rows.most else ''}{line.rows.count:,.0f}"


def _size(size: float | None) -> str:
    if not size:
        return "" if size is None else "0 kB"
    unit, name = next(((u, n) for u, n in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")) if size >= u), (1e3, "kB"))
    return f"{size / unit:,.2f} {name}"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}" if value >= 0.1 else "< 0.1" if value else ""


def _legend(found: "Preflight") -> str:
    """Sums, and what the figures rest on."""
    from lightgen.operations.outlook import MFU

    left = [line for line in found.lines if line.found.state != "sealed"]
    seconds = sum(line.seconds or 0.0 for line in left)
    unknown = sum(line.seconds is None for line in left)
    size = sum(line.bytes or 0.0 for line in left)
    fees = sum(line.fees for line in left)
    usd = seconds / 3600 * found.usd_per_hour + fees
    services = f" ({fees:,.2f} to services)" if fees else ""
    cost = f", USD {usd:,.{0 if usd >= 100 else 2}f}{services}" if usd else ""
    without = f", and {unknown} steps without a figure" if unknown else ""
    gpu = found.machine.gpu
    peak = f"{gpu.flops / 1e12:,.0f} TFLOP/s of the data sheet" if gpu else "what this processor reached in a trial"
    return (
        f"left: {_number(seconds / 3600) or 'no'} hours on the clock{cost}, {_size(size)} to store{without}\n"
        f"formula: operations / ({MFU:.0%} of {peak}), not measured; sizes by formula too; ≤ at most\n"
        "unknown: a version is named by the content of what it is made from, so its name is known once that is made"
    )


def _show_problems(title: str, problems: "list[Problem]") -> None:
    if not problems:
        return
    out.print(f"\n[bold]{title}[/]")
    for problem in problems:
        mark = "[red]stops[/]" if problem.weight == "stops" else f"[yellow]{problem.weight}[/]"
        out.print(f"  {mark}  {escape(problem.what)}: {escape(problem.fix)}\n         at {escape(problem.where)}")


def _plain(found: "Preflight") -> dict[str, object]:
    lines = [
        {
            "step": line.step.name, "state": line.found.state, "detail": line.found.detail,
            "rows": line.rows.count if line.rows else None, "rows_at_most": bool(line.rows and line.rows.most),
            "bytes": line.bytes, "device_seconds": line.device_seconds, "seconds": line.seconds, "by": line.by,
            "usd_to_services": line.fees,
        }
        for line in found.lines
    ]  # fmt: skip
    problems = [asdict(problem) for problem in found.problems]
    return {"recipe": found.recipe.name, "machine": found.machine.name, "steps": lines, "problems": problems}
