"""`import ncsnx` is cheap, and finding an experiment is too."""

import subprocess
import sys
from pathlib import Path

import attrs
import pytest

import ncsnx
from ncsnx.config.provenance import remembered_origins
from tests.config.examples import write_file


def test_an_experiment_is_found_and_shown_without_torch(tmp_path: Path) -> None:
    code = """
import sys
import ncsnx
assert {name.partition(".")[0] for name in sys.modules} & {"attrs", "cattrs", "rich", "torch"} == set()
shown = ncsnx.experiment("digits", "steps=50")._repr_html_()
assert "command line" in shown
assert not {"IPython", "rich", "torch"} & set(sys.modules)
"""
    environment = {"PYTHONPATH": str(Path(ncsnx.__file__).parents[1]), "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)


def test_every_public_name_is_there() -> None:
    assert [name for name in ncsnx.__all__ if not hasattr(ncsnx, name)] == []


def test_origins_are_shown_where_they_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = write_file(tmp_path / "own.py")
    found = ncsnx.experiment(file, "steps=77")

    shown = found._repr_html_()
    assert f"{file}:" in shown
    assert "command line" in shown
    assert "command line" not in attrs.evolve(found, steps=78)._repr_html_()


def test_what_evolve_takes_over_keeps_its_origin(tmp_path: Path) -> None:
    file = write_file(tmp_path / "own.py")
    found = ncsnx.experiment(file, "seed=5 optimizer.beta1=0.8")
    slower = attrs.evolve(found, steps=78, optimizer=attrs.evolve(found.optimizer, lr=0.5))

    origins = remembered_origins(slower)
    assert (origins["seed"], origins["optimizer.beta1"]) == ("command line", "command line")
    assert origins["model.width"] == remembered_origins(found)["model.width"]
    assert {"steps", "optimizer.lr"} & set(origins) == set()
    assert "Python" in slower._repr_html_()


def test_a_change_that_is_wrong_is_refused_with_its_path() -> None:
    with pytest.raises(ncsnx.NcsnxError, match=r"modle.width: no such field .* did you mean model.width\?"):
        ncsnx.experiment("digits", "modle.width=3")
    with pytest.raises(ncsnx.NcsnxError, match=r"^a change must be text"):
        ncsnx.experiment("digits", [50])  # type: ignore[list-item]
