"""`import ncsnx` is cheap, and finding an experiment is too."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import ncsnx


def test_an_experiment_is_found_and_shown_without_torch(tmp_path: Path) -> None:
    code = """
import sys
import ncsnx
assert {name.partition(".")[0] for name in sys.modules} & {"attrs", "cattrs", "rich", "torch"} == set()
shown = ncsnx.experiment("digits", "steps=50")._repr_html_()
assert "steps" in shown
assert not {"IPython", "rich", "torch"} & set(sys.modules)
"""
    environment = {"PYTHONPATH": str(Path(ncsnx.__file__).parents[1]), "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)


def test_every_public_name_is_there() -> None:
    assert [name for name in ncsnx.__all__ if not hasattr(ncsnx, name)] == []


def test_an_experiment_shows_its_values_and_which_are_defaults() -> None:
    shown = ncsnx.experiment("digits", "steps=77")._repr_html_()
    assert re.search(r"steps</td>.*?77</td>.*?></td>", shown)
    assert re.search(r"clip_norm</td>.*?None</td>.*?default</td>", shown)


def test_a_change_that_is_wrong_is_refused_with_its_path() -> None:
    with pytest.raises(ncsnx.NcsnxError, match=r"modle.width: no such field .* did you mean model.width\?"):
        ncsnx.experiment("digits", "modle.width=3")
    with pytest.raises(ncsnx.NcsnxError, match=r"^a change must be text"):
        ncsnx.experiment("digits", [50])  # type: ignore[list-item]
