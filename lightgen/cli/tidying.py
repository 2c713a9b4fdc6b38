"""Commands that name, retire and delete versions."""

from typing import Annotated, Any

import typer
from rich.markup import escape

from lightgen.cli.console import JsonOption, RefArgument, StoreOption, out, print_json
from lightgen.errors import ConfigError
from lightgen.storage.store import Store, open_store

app = typer.Typer()


@app.command()
def tag(
    ref: RefArgument, name: Annotated[str, typer.Argument(help="the newest use of a name wins")], store: StoreOption
) -> None:
    """Give a version a name, to be found as `kind@tag:name`. A tagged version is never deleted."""
    open_store(store).tag(ref, name)
    out.print(f"tagged {escape(ref)} {escape(name)}")


@app.command()
def untag(
    ref: RefArgument, name: Annotated[str, typer.Argument(help="a name that it has")], store: StoreOption
) -> None:
    """Take a name from a version, which may then be retired and deleted like any other."""
    open_store(store).untag(ref, name)
    out.print(f"untagged {escape(ref)} {escape(name)}")


@app.command()
def retire(
    ref: RefArgument, store: StoreOption, undo: Annotated[bool, typer.Option("--undo", help="bring it back")] = False
) -> None:
    """Take a version out of `latest`. `gc` may delete it, unless something younger or tagged was made from it.

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
    as_json: JsonOption = False,
) -> None:
    """List what nothing needs, or delete it: retired and unfinished versions, and files without a receipt."""
    from lightgen.storage.collect import collect, find_garbage

    opened = open_store(store)
    if as_json and apply:
        raise ConfigError("gc --json lists; leave out --apply, or leave out --json")
    if as_json:
        print_json(_listed(opened, grace_days, evict))
        return
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


def _listed(store: Store, grace_days: float, evict: bool) -> dict[str, Any]:
    """What `gc` would print, as JSON values."""
    from lightgen.storage.collect import find_garbage, stale_uploads
    from lightgen.storage.evict import find_evictable

    evictable = find_evictable(store, grace_days) if evict else []
    return {
        "garbage": [vars(one) for one in find_garbage(store, grace_days)],
        "uploads": [one.key for one in stale_uploads(store, grace_days)],
        "evictable": [{"version": str(one.version.ref), "bytes": one.bytes} for one in evictable],
    }


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
