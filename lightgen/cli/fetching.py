"""Commands about what was fetched from the web."""

from typing import Annotated

import typer

from lightgen.cli.console import RefArgument, StoreOption, out
from lightgen.progress import Terminal

app = typer.Typer()


@app.command()
def retry(
    ref: RefArgument,
    store: StoreOption,
    concurrency: Annotated[int | None, typer.Option(min=1, help="answers in flight")] = None,
    user_agent: Annotated[str | None, typer.Option(help="what servers see: a name, and whom to write to")] = None,
) -> None:
    """Fetch again the links that failed for reasons that pass. The new version has all pictures of REF too."""
    from lightgen.operations.refetch import passing, refetch
    from lightgen.storage.store import open_store
    from lightgen.work import Context

    opened = open_store(store)
    version = opened.open(ref)
    given = {"concurrency": concurrency, "user_agent": user_agent}
    how = {name: value for name, value in given.items() if value is not None}
    made = opened.open(refetch(version.ref, Context(opened, progress=Terminal()), how))
    if made.ref == version.ref:
        out.print(f"{version.ref}: no link failed for a reason that passes; nothing to do")
        return
    before, after = passing(version), passing(made)
    out.print(f"{made.ref}: {made.rows - version.rows:,} more pictures, {made.rows:,} in all")
    for reason in dict.fromkeys([*before, *after]):
        out.print(f"{reason:<20} {before.get(reason, 0):>8,} before {after.get(reason, 0):>8,} now")
