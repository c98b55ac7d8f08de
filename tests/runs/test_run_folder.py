"""Runs are created atomically, are found by name or path, and never execute anything."""

import json
import os
import shutil
from pathlib import Path

import attrs
import pytest

from ncsnx.config import Experiment
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.runs.folder import Run, open_run
from ncsnx.runs.summaries import summaries
from tests.conftest import StartPython

CREATE = r"""
import os, sys
from pathlib import Path
from ncsnx.errors import NcsnxError
from ncsnx.runs.folder import Run
run = Run(Path(sys.argv[1]))
experiment, space = run.experiment(), run.space()
for _ in range(4):
    if os.fork() == 0:
        try:
            Run.create(Path(sys.argv[2]), "contested", experiment, {}, None, "f", space)
            answer = "made"
        except NcsnxError as error:
            answer = str(error)
        os.write(1, f"{answer}\n".encode())  # whole: print writes the end of a line apart
        os._exit(0)
for _ in range(4):
    os.wait()
"""


def test_a_new_run_holds_its_experiment_origins_and_source(run: Run, experiment: Experiment) -> None:
    assert run.experiment() == experiment
    assert run.data_fingerprint() == "f" * 64
    assert json.loads(run.origins_path.read_bytes()) == {"schema_version": 1, "steps": "small.py:9"}
    assert run.source_path.read_text() == "# source\n"
    assert {path.name for path in run.path.iterdir()} == {"checkpoints", "config.json", "experiment.py", "origins.json"}
    assert list(run.path.parent.iterdir()) == [run.path]


def test_an_existing_run_is_not_overwritten(run: Run, experiment: Experiment) -> None:
    with pytest.raises(NcsnxError, match=r"already exists.*name=NAME"):
        Run.create(run.path.parent, run.name, attrs.evolve(experiment, seed=4), {}, None, "g", run.space())
    assert run.experiment() == experiment


def test_of_several_who_make_the_same_run_one_succeeds(run: Run, tmp_path: Path, start_python: StartPython) -> None:
    answers = start_python(CREATE, run.path, tmp_path / "new").communicate()[0].splitlines()
    assert answers.count("made") == 1
    assert sum("already exists" in answer for answer in answers) == 3
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["contested"]


def test_a_run_is_found_by_name_and_by_path(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = run.path.parent
    assert open_run(runs, "small") == run
    assert open_run(Path("elsewhere"), str(run.path)) == run
    assert open_run(Path("elsewhere"), run.path).name == "small"
    like_a_checkpoint = run.path.parent / "checkpoints" / "step-00000005"
    shutil.copytree(run.path, like_a_checkpoint)
    assert open_run(Path("elsewhere"), like_a_checkpoint).experiment() == run.experiment()
    monkeypatch.chdir(runs)
    assert open_run(Path("elsewhere"), "small").experiment() == run.experiment()
    monkeypatch.chdir(run.path)
    assert open_run(Path("elsewhere"), ".").name == "small"


def test_a_name_that_no_run_can_have_gets_the_runs_not_a_new_name(run: Run) -> None:
    with pytest.raises(UsageError, match=r"'a b' cannot name a run: .*; list the runs: ncsnx list"):
        open_run(run.path.parent, "a b")


def test_a_folder_without_a_config_is_no_run(run: Run) -> None:
    (run.path.parent / "photos").mkdir()
    with pytest.raises(NcsnxError, match=r"photos is not a run: it has no config\.json"):
        open_run(run.path.parent, "photos")


def test_listing_shows_broken_runs_with_what_is_wrong_beside_the_others(run: Run) -> None:
    runs = run.path.parent
    (runs / "broken").mkdir()
    (runs / "broken" / "config.json").write_text("{")
    (runs / "photos").mkdir()
    (runs / ".small.tmp-1-aa").mkdir()
    (runs / "strange").mkdir()
    os.mkfifo(runs / "strange" / "config.json")
    (runs / "notes.txt").write_text("")
    rows = {summary.name: summary for summary in summaries(runs)}
    assert list(rows) == ["broken", "photos", "small", "strange"]
    assert "broken/config.json: expected JSON" in str(rows["broken"].error)
    assert "cannot read" in str(rows["photos"].error)
    assert (rows["strange"].state, "config.json" in str(rows["strange"].error)) == ("broken", True)
    assert rows["small"].declared == run.experiment()
