"""The command that says how many images are worth paying for."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from lightgen.cli.console import JsonOption, StoreOption, out, print_json, print_whole
from lightgen.cli.running import RecipeArgument, SetOption, overrides_of

if TYPE_CHECKING:
    from lightgen.operations.volume import Worth

app = typer.Typer()
COUNT = re.compile(r"(\d[\d,_]*(?:\.\d+)?)([kM]?)")
THOUSANDS = {"": 1, "k": 1_000, "M": 1_000_000}


def _count(text: str) -> int:
    found = COUNT.fullmatch(text.strip())
    number = round(float(re.sub("[,_]", "", found[1])) * THOUSANDS[found[2]]) if found else 0
    if number < 1:
        raise typer.BadParameter(f"{text!r} is no number of captions: write 250000, 250k or 1.5M")
    return number


@app.command()
def volume(
    recipe: RecipeArgument,
    store: StoreOption,
    settings: SetOption = None,
    sample: Annotated[
        int | None,
        typer.Option(
            "--sample", parser=_count, metavar="COUNT", help="captions that are looked at; default: 200k or more"
        ),
    ] = None,
    upto: Annotated[
        int | None,
        typer.Option("--upto", parser=_count, metavar="COUNT", help="end of the curve; at most three samples"),
    ] = None,
    step: Annotated[
        int | None, typer.Option("--step", parser=_count, metavar="COUNT", help="captions of a step, such as 250k")
    ] = None,
    least_gain: Annotated[
        float, typer.Option("--least-gain", min=0, max=1, help="coverage that a step must add to be worth it")
    ] = 0.01,
    on: Annotated[str | None, typer.Option("--on", help="another machine: 8xH100, A100-40, ...")] = None,
    usd_per_hour: Annotated[
        float | None, typer.Option("--usd-per-hour", min=0, help="price of the machine; default: evaluate.usd_per_hour")
    ] = None,
    page: Annotated[Path | None, typer.Option("--page", help="write curve and costs as one HTML file")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what further images would show that those before do not, and what they would cost."""
    from lightgen.operations.machines import described
    from lightgen.operations.volume import worth
    from lightgen.pages.volume import volume_page
    from lightgen.recipe import load_recipe

    loaded = load_recipe(recipe, overrides_of(settings or []))
    machine = described(on) if on else None
    found = worth(loaded, store, sample, upto, step, least_gain, machine, usd_per_hour)
    if page is not None:
        page.write_text(volume_page(found), encoding="utf-8")
    if as_json:
        print_json(_plain(found))
        return
    _show(found)
    if page is not None:
        out.print(f"wrote {page}")


def _show(found: "Worth") -> None:
    from lightgen.pages.volume import TITLES, facts, grounds, rows, sentences, verdict

    for fact in facts(found):
        out.print(fact, markup=False)
    table = Table(box=None, header_style="bold")
    lines = rows(found)
    for title in TITLES[: len(lines[0])]:
        table.add_column(title, justify="right")
    for line in lines:
        table.add_row(*line)
    print_whole(table)
    for sentence in sentences(found):
        out.print(sentence, markup=False)
    out.print(verdict(found), style="bold", markup=False)
    for ground in grounds(found):
        out.print(ground, style="dim", markup=False)


def _plain(found: "Worth") -> dict[str, Any]:
    from lightgen.pages.volume import facts, grounds, sentences, verdict

    growth, captions = found.growth, found.captions
    steps = [
        {
            "captions": step, "estimated": step > captions.sampled,
            "coverage": _ends(growth.coverage, growth.at(step)), "gain": _ends(growth.gain, place),
            "pairs": _ends(growth.pairs, growth.at(step)), "concepts": float(growth.concepts[growth.at(step)]),
            "cost": asdict(found.costs[place]) if found.costs else None,
            "more": asdict(found.more[place]) if found.more else None, "told": told,
        }
        for place, (step, told) in enumerate(zip(growth.steps, sentences(found), strict=True))
    ]  # fmt: skip
    return {
        "recipe": found.recipe.name, "machine": found.machine.name, "place": captions.place,
        "sampled": captions.sampled, "captions": captions.held, "captions_exact": captions.exact,
        "asked": found.asked, "trial": growth.trial, "least_gain": found.least_gain,
        "enough": found.enough, "verdict": verdict(found), "steps": steps,
        "facts": facts(found), "grounds": grounds(found), "without_figure": found.without,
    }  # fmt: skip


def _ends(band: Any, place: int) -> dict[str, float]:
    return {name: float(getattr(band, name)[place]) for name in ("mean", "low", "high")}
