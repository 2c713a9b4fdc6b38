"""What is known of a model of the Hugging Face hub without fetching it: copies on this machine, and its commits."""

# pyright: reportPrivateImportUsage=false
# The client's HTTP library changes between its releases; what it raises has one name in `errors`.

from functools import cache
from pathlib import Path

REACH_S = 4.0  # to wait for the hub
UNREACHED = "the hub cannot be reached from here"


def snapshot(model: str, revision: str) -> Path | None:
    """The folder of a commit in the cache of this machine; it may hold only some of the files."""
    folder = _cached(model) / "snapshots" / revision
    return folder if folder.is_dir() else None


def commits_here(model: str) -> list[str]:
    """Commits of `model` in the cache of this machine, the newest first."""
    found = [path for path in (_cached(model) / "snapshots").glob("*") if path.is_dir()]
    return [path.name for path in sorted(found, key=lambda path: -path.stat().st_mtime)]


@cache
def refusal(model: str, revision: str) -> str:
    """Why the hub would not give a commit to this user: "" where it would, UNREACHED where nobody answers."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HTTPError

    if not _reachable():
        return UNREACHED
    hub = HfApi()
    try:
        hub.model_info(model, revision=revision, timeout=REACH_S)
        hub.auth_check(model)
    except GatedRepoError:
        return "the hub gives it only to who accepted its licence: accept it on the model's page, then `hf auth login`"
    except HfHubHTTPError as error:
        return f"the hub refuses it: {str(error).strip().splitlines()[0][:200]}"
    except HTTPError:
        return UNREACHED
    return ""


@cache
def _reachable() -> bool:
    """Asked once: a network that swallows what is sent costs REACH_S each time."""
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled
    from huggingface_hub.utils import get_session

    try:
        get_session().head(ENDPOINT, timeout=REACH_S)
    except (OfflineModeIsEnabled, HTTPError):
        return False
    return True


def _cached(model: str) -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE) / f"models--{model.replace('/', '--')}"
