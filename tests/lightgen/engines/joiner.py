"""Processes that join: each calls a stage for the same plan. What they import is imported once."""

import importlib
import os
import sys

from lightgen.engines.engine import open_engine
from lightgen.storage.store import open_or_create
from lightgen.work import Context, RunConfig


def main(module: str, store: str, run: str, settings: str = "", count: str = "1") -> None:
    """`settings` are those of `join` in `module`; one process, or children of this one."""
    join = importlib.import_module(f"tests.lightgen.engines.{module}").join

    def take_part() -> None:
        given = RunConfig.model_validate_json(run)
        with open_engine(given) as engine:
            made = join(Context(open_or_create(store), run=given, engine=engine), settings)
        os.write(1, f"{made.fingerprint}\n".encode())  # one line in one piece, for others print there too

    if count == "1":
        return take_part()
    children = []
    for _ in range(int(count)):
        if not (child := os.fork()):
            take_part()
            os._exit(0)
        children.append(child)
    sys.exit(max(os.waitpid(child, 0)[1] for child in children))


if __name__ == "__main__":
    main(*sys.argv[1:])
