"""A folder to work in, with nothing of this machine's settings."""

from pathlib import Path

import pytest


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NCSNX_RUNS", raising=False)
    monkeypatch.delenv("NCSNX_DATA", raising=False)
    return tmp_path
