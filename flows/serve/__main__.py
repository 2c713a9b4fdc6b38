"""`make serve`: Prefect server, deployments and a worker on this machine; Ctrl-C stops all of it."""

import argparse
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import psutil
from prefect.settings import get_current_settings

from flows.serve import children, server, silent
from flows.serve.setup import POOL, prepare
from lightgen.settings import default_store

UNPROTECTED = (
    "{host} can be reached from other machines and this server has no password, so anybody could run code here. "
    "Set PREFECT_SERVER_API_AUTH_STRING=user:password (and PREFECT_API_AUTH_STRING for clients), or leave --host out"
)
READY = """
LightGen Distill is served at {page}   (Ctrl-C stops server, worker and runs; finished shards are kept)

Runs use the store {store}, unless they are given another.

In another terminal, in this folder:
{export}  prefect deployment run build-distill-set
  prefect deployment run demo --watch
"""


def main() -> None:
    """Read the options, start everything, wait, stop everything."""
    options = _options()
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell that starts us in the background has SIGINT ignored
        signal.signal(number, _interrupt)
    children.adopt_orphans()
    try:
        _start(options)
        _watch()
    except KeyboardInterrupt:
        _say("\nstopping ...")
    except (server.ServerDidNotStart, subprocess.CalledProcessError) as error:
        raise SystemExit(f"lightgen serve: {error}") from None
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        children.stop_all(_is_server)
        _say("everything is stopped")


def _options() -> argparse.Namespace:
    settings = get_current_settings()
    default_port = urlsplit(settings.api.url or "").port or 4200
    parser = argparse.ArgumentParser(prog="make serve", description=__doc__)
    parser.add_argument("--host", default=server.LOOPBACK, help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=default_port, help="default: %(default)s, the one in prefect.toml")
    parser.add_argument(
        "--home", type=Path, default=server.HOME, help="Prefect's database and logs (default: .prefect)"
    )
    parser.add_argument("--limit", type=int, default=1, help="runs at once (default: 1)")
    options = parser.parse_args()
    if options.host not in (server.LOOPBACK, "localhost", "::1") and not settings.server.api.auth_string:
        parser.error(UNPROTECTED.format(host=options.host))
    if server.taken(options.port):
        parser.error(f"port {options.port} is in use: stop what listens there, or choose another with --port")
    return options


def _start(options: argparse.Namespace) -> None:
    home = options.home.resolve()
    _say("starting the Prefect server (the first time takes about 20 s) ...")
    api_url = server.start(home, options.port, options.host)
    env = {**server.environment(api_url, home), "LIGHTGEN_HOME": str(server.ROOT), "PREFECT_PLUGINS_ENABLED": "false"}
    prefect = [sys.executable, "-m", "prefect", "--no-prompt"]
    told = get_current_settings().api.url == api_url
    server.connect(api_url, home)
    prepare()
    deploy = children.spawn([*prefect, "deploy", "--all"], env, server.ROOT, home / "deploy.log")
    if deploy.wait():
        raise subprocess.CalledProcessError(deploy.returncode, f"prefect deploy --all (see {home / 'deploy.log'})")
    children.spawn(
        [*prefect, "worker", "start", "--pool", POOL, "--type", "process", "--limit", str(options.limit)],
        env,
        server.ROOT,
    )
    threading.Thread(target=silent.watch, args=(threading.Event(),), name="silent-runs", daemon=True).start()
    export = "" if told else f"  export PREFECT_API_URL={api_url}\n"
    _say(READY.format(page=api_url.removesuffix("/api"), store=_store(), export=export))


def _store() -> str:
    """Where runs of the worker look for the store: it starts them in the project folder."""
    store = default_store()
    return store if "://" in store else str(server.ROOT / store)


def _watch() -> None:
    """Return when the server or the worker ends by itself."""
    running = psutil.Process().children()
    while all(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in running):
        time.sleep(1)
    _say("the server or the worker has ended; stopping the rest")


def _is_server(command: Sequence[str]) -> bool:
    return server.APP in command


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
