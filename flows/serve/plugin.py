"""Lets `prefect deployment run build-distill-set` work as typed in the project folder.

Prefect wants `<flow>/<deployment>`; ours share one name, so the short form says everything. Prefect calls the hook
below at `import prefect`, before its command line reads `sys.argv` (`prefect.toml` switches plugins on). The hook's
documented use is setting up the environment; spelling out one argument is our own use of it, and touches nothing inside
Prefect. In every process but the `prefect` command it does nothing.
"""

import difflib
import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from prefect.plugins import register_hook

DEPLOYMENTS = Path(__file__).parents[2] / "prefect.yaml"
# Options of the two commands that stand alone; any other option without "=" takes the argument after it.
FLAGS = {
    "--watch",
    "--no-watch",
    "--prompt",
    "--no-prompt",
    "--help",
    "-h",
    "--empty-param",
    "--empty-job-variable",
    "--empty-tag",
}


def expand(argv: Sequence[str]) -> list[str]:
    """`argv` of a Prefect process, with the name of one of our deployments spelled out where Prefect wants it.

    Raises SystemExit with advice for a name that Prefect would refuse anyway and that is nearly one of ours.
    """
    at = _name_position(argv)
    if at is None or "/" in argv[at]:
        return list(argv)
    names = _names()
    if argv[at] in names:
        return [*argv[:at], f"{argv[at]}/{argv[at]}", *argv[at + 1 :]]
    if near := _near(argv[at], names):
        raise SystemExit(f"no deployment is called {argv[at]!r} alone; did you mean {' or '.join(near)}?")
    return list(argv)


def _name_position(argv: Sequence[str]) -> int | None:
    """Where the deployment's name stands in `prefect [options] deployment run|inspect [options] NAME`."""
    words = _positionals(argv)
    spelled = [argv[i] for i in words[:2]]
    if len(words) < 3 or spelled[0] not in ("deployment", "deployments") or spelled[1] not in ("run", "inspect"):
        return None
    return words[2]


def _positionals(argv: Sequence[str]) -> list[int]:
    """Indices of the arguments that are neither options nor values of options."""
    found, index = [], 1
    while index < len(argv) and argv[index] != "--":
        argument = argv[index]
        if not argument.startswith("-"):
            found.append(index)
        elif argument not in FLAGS and "=" not in argument:
            index += 1
        index += 1
    return found


def _names() -> list[str]:
    """Names of our deployments, each a flow of the same name; none where only the packages are installed."""
    if not DEPLOYMENTS.is_file():
        return []
    return [one["name"] for one in yaml.safe_load(DEPLOYMENTS.read_text(encoding="utf-8"))["deployments"]]


def _near(name: str, names: Sequence[str]) -> list[str]:
    starts = [ours for ours in names if ours.startswith(name)]
    return starts or difflib.get_close_matches(name.replace("_", "-"), names, n=2, cutoff=0.75)


def _is_prefect(argv: Sequence[str], original: Sequence[str]) -> bool:
    """True for the `prefect` command and `python -m prefect`, whose argv[0] is "-m" while Prefect is imported."""
    if not argv:
        return False
    if argv[0] == "-m":
        return ("-m", "prefect") in itertools.pairwise(original)
    return os.path.basename(argv[0]).removesuffix(".exe") == "prefect"


@register_hook
def setup_environment(*, ctx: object) -> None:
    """Called by Prefect when it is imported."""
    if _is_prefect(sys.argv, sys.orig_argv):
        sys.argv[:] = expand(sys.argv)
