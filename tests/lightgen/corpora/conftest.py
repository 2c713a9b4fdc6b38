from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds what another has remembered."""
    monkeypatch.setenv("LIGHTGEN_CACHE", str(tmp_path / "cache"))
