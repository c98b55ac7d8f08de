"""Fixtures for tests of commands."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def copied(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the module's `folder`, which is the current one."""
    shutil.copytree(folder, tmp_path / "copied")
    monkeypatch.chdir(tmp_path / "copied")
    return tmp_path / "copied"
