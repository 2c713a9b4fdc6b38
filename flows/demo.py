"""Flow `demo`: the whole loop, and `python -m flows.demo`, which `make demo` calls."""

import argparse
import sys
import time

from prefect import flow
from prefect.settings import get_current_settings

from flows.parameters import Job, Overrides, RecipeName, StoreAddress, run_name
from flows.serve import server
from flows.summary import summary
from lightgen.cli.running import overrides_of
from lightgen.errors import LightgenError
from lightgen.operations.preflight import check
from lightgen.progress import duration
from lightgen.settings import default_store
from schemas.ref import ArtifactRef
from tasks.policies import advice_on

STOPPED = "The same command goes on where this one stopped: finished shards and checkpoints are kept."


@flow(name="demo", flow_run_name=run_name, persist_result=False)
def demo(
    recipe: RecipeName = "demo", overrides: Overrides = None, store: StoreAddress = None
) -> dict[str, ArtifactRef]:
    """Captions in, evaluated and aligned student out."""
    return Job.of(recipe, overrides, store).make()


def main() -> None:
    """Run the flow here, with a Prefect server of its own unless one is reachable, and print what came out."""
    options = _options()
    began = time.monotonic()
    try:
        job = Job.of(options.recipe, options.overrides, options.store)
        check(job.recipe, job.store)  # a wrong recipe is refused before a server starts, and told once
        report = _run(options)
    except LightgenError as error:
        raise SystemExit(f"\ndemo: {error}\nWhat to do: {advice_on(error)}") from None
    except KeyboardInterrupt:
        raise SystemExit(f"\ndemo: stopped. {STOPPED}") from None
    sys.stdout.write(summary(report) + f"\nThe demo took {duration(time.monotonic() - began)}.\n")


def _run(options: argparse.Namespace) -> ArtifactRef:
    configured = get_current_settings().api.url
    if not (configured and server.healthy(configured)):
        api_url = server.start_private()
        server.connect(api_url, server.HOME)
        sys.stderr.write(f"demo: watch it at {api_url.removesuffix('/api')} while it runs\n")
    return demo(options.recipe, options.overrides, options.store)["evaluate"]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m flows.demo", description="Run the whole loop on this machine.")
    parser.add_argument("--recipe", default="demo", help="a name in recipes/ or a path (default: demo)")
    parser.add_argument(
        "--store", default=default_store(), help="a folder or s3://bucket/prefix (default: %(default)s)"
    )
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="override")
    options = parser.parse_args()
    options.overrides = overrides_of(options.settings)
    return options


if __name__ == "__main__":
    main()
