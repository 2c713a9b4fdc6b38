"""`lightgen rows`: the rows of a version as a file for other programs."""

import json
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import typer
from rich.markup import escape

from lightgen.cli.console import RefArgument, StoreOption, out
from lightgen.errors import ConfigError
from lightgen.storage.store import open_store
from lightgen.storage.version import Version

app = typer.Typer()
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


@app.command()
def rows(
    ref: RefArgument,
    store: StoreOption,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="file to write, .csv, .tsv, .jsonl or .parquet; by default KIND-DIGEST.csv here"),
    ] = None,
    columns: Annotated[list[str] | None, typer.Option("--column", help="only this column; may be repeated")] = None,
    order: Annotated[str | None, typer.Option("--order", help="column to sort by: rank puts the newest first")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="rows to write; default: all")] = None,
) -> None:
    """Write the rows of a version as a table for other programs. All of them are held in memory."""
    version = open_store(store).open(ref)
    path = to or Path(f"{version.ref.kind}-{version.ref.version[:12]}.csv")
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"--to {path}: the name must end in one of {', '.join(SUFFIXES)}")
    table = _table(version, columns or [], order, limit)
    _write(table, path)
    out.print(f"wrote {escape(str(path))}: {table.num_rows:,} rows of {', '.join(table.column_names)}")


def _table(version: Version, columns: list[str], order: str | None, limit: int | None) -> pa.Table:
    """The rows asked for, in their order."""
    names = version.table(0).column_names
    unknown = [name for name in [*columns, *([order] if order else [])] if name not in names]
    if unknown:
        raise ConfigError(f"{version.ref} has no column {unknown[0]!r}; it has {', '.join(names)}")
    wanted = columns or names
    table = version.table(columns=list(dict.fromkeys([*wanted, *([order] if order else [])])))
    return (table.sort_by(order) if order else table).slice(0, limit).select(wanted)


def _write(table: pa.Table, to: Path) -> None:
    if to.suffix == ".parquet":
        pq.write_table(table, to)
        return
    flat = to.suffix != ".jsonl"
    hard = [field.name for field in table.schema if _is_bytes(field.type) or (flat and pa.types.is_nested(field.type))]
    if hard:
        raise ConfigError(f"{to}: {', '.join(hard)} cannot be written there; name columns, or write .parquet")
    if flat:
        separator = "\t" if to.suffix == ".tsv" else ","
        pa_csv.write_csv(table, to, pa_csv.WriteOptions(delimiter=separator, quoting_style="needed"))
        return
    with to.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in table.to_pylist())


def _is_bytes(kind: pa.DataType) -> bool:
    inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else kind
    return pa.types.is_binary(inner) or pa.types.is_large_binary(inner) or pa.types.is_fixed_size_binary(inner)
