"""A cache for each test, so that none finds what another scanned, listed or decoded."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache."""
    monkeypatch.setenv("NCSNX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
