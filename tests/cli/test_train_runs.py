"""`ncsnx train` with a run as its argument."""

import json
import shutil
from pathlib import Path

import pytest

from ncsnx.runs.folder import MEASURED, Run, read_origins
from ncsnx.runs.manifest import checkpoints
from tests.training.tiny import CPU, command, overrides

WITHOUT_GRIDS = overrides("snapshots=none", "steps=4")


@pytest.fixture
def named(tmp_path: Path) -> Run:
    """A run called first, of 4 steps, in a folder of its own."""
    assert command("train", "digits", *WITHOUT_GRIDS, "--run", "first", *CPU, folder=tmp_path).code == 0
    return Run(tmp_path / "runs" / "first")


@pytest.mark.parametrize(
    "argument", ["first", "runs/first", "runs/first/", "./runs/first", "runs/first/config.json", "{}", "{}/config.json"]
)
def test_a_run_resumes_by_name_or_path_without_its_changes_typed_again(named: Run, argument: str) -> None:
    folder = named.path.parent.parent
    before = named.experiment()
    (named.path / "experiment.py").write_text("raise SystemExit(9)")
    result = command("train", argument.format(named.path), "steps=8", *CPU, folder=folder)
    assert result.code == 0, result.err
    assert checkpoints(named) == [4, 8]
    assert named.experiment().model == before.model
    assert read_origins(named.origins_path)["steps"] == "command line"
    assert [path.name for path in named.path.parent.iterdir()] == ["first"]


def test_the_resumed_run_ends_like_one_of_that_length(named: Run, tmp_path: Path) -> None:
    folder = named.path.parent.parent
    assert command("train", "runs/first", "steps=8", *CPU, folder=folder).code == 0
    words = ["train", "digits", *overrides("snapshots=none", "steps=8"), "--run", "whole", *CPU]
    assert command(*words, folder=folder).code == 0
    weights = "checkpoints/step-00000008/model.safetensors"
    assert (named.path / weights).read_bytes() == (named.path.with_name("whole") / weights).read_bytes()


def test_a_complete_run_says_what_to_type(named: Run) -> None:
    result = command("train", "runs/first", *CPU, folder=named.path.parent.parent)
    assert result.code == 0
    assert "complete: nothing to train; to train on, give more steps, as in steps=8" in result.err
    assert "next: ncsnx sample first --ckpt latest --n 64" in result.err


def test_a_run_elsewhere_resumes_in_place_and_is_named_by_its_path(named: Run, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "moved"
    shutil.copytree(named.path, moved)
    result = command("train", "elsewhere/moved", "steps=8", *CPU, folder=tmp_path)
    assert result.code == 0
    assert checkpoints(Run(moved)) == [4, 8]
    assert checkpoints(named) == [4]
    assert "next: ncsnx sample elsewhere/moved --ckpt latest" in result.err


def test_changes_of_the_identity_are_refused_with_the_name_to_use_and_that_starts_a_new_run(named: Run) -> None:
    folder = named.path.parent.parent
    words = ["train", "runs/first", "optimizer.lr=5e-4"]
    refused = command(*words, *CPU, folder=folder)
    assert refused.code == 1
    assert "optimizer.lr: 0.002 → 0.0005" in refused.err
    assert "--run first-2" in refused.err
    assert "resume the run as it is:  ncsnx train runs/first\n" in refused.err
    assert command(*words, "--run", "first-2", *CPU, folder=folder).code == 0
    new = Run(folder / "runs" / "first-2")
    origins = read_origins(new.origins_path)
    assert origins.pop("optimizer.lr") == "command line"
    assert origins.pop("data.mean") == MEASURED
    assert set(origins.values()) == {"run first"}
    assert new.experiment().model == named.experiment().model
    assert not new.source_path.exists()
    again = command(*words, "--run", "first-2", *CPU, folder=folder)
    assert again.code == 0
    assert "complete: nothing to train" in again.err


def test_a_run_from_the_configuration_of_another_measures_the_mean_of_its_own_data(named: Run) -> None:
    folder = named.path.parent.parent
    words = ["train", "runs/first", "data.transform=rescaled", "steps=1", "--run", "rescaled"]
    assert command(*words, *CPU, folder=folder).code == 0
    (before,), (after,) = (run.experiment().data.mean or () for run in (named, Run(folder / "runs" / "rescaled")))
    assert after == pytest.approx(2 * before - 1, abs=1e-3)


def test_a_name_is_the_experiment_before_the_run_whose_resumption_is_offered(tmp_path: Path) -> None:
    assert command("train", "digits", *WITHOUT_GRIDS, *CPU, folder=tmp_path).code == 0
    refused = command("train", "digits", *CPU, folder=tmp_path)
    assert refused.code == 1
    assert "model.width: 4 → 16" in refused.err
    assert "resume the run as it is:  ncsnx train runs/digits\n" in refused.err
    assert command("train", "runs/digits", *CPU, folder=tmp_path).code == 0


def _absent_package(run: Run) -> None:
    saved = json.loads(run.config_path.read_text())
    saved["experiment"]["model"] = {"type": "absent-network"}
    run.config_path.write_text(json.dumps(saved))


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda run: run.config_path.write_text('{"model_type": "bert"}'), "config.json: "),
        (lambda run: run.config_path.write_text("[1"), "config.json: expected JSON"),
        (_absent_package, "'absent-network'"),
    ],
    ids=["foreign", "torn", "of an absent package"],
)
def test_a_configuration_that_cant_be_read_is_refused_in_a_line(named: Run, spoil: object, expected: str) -> None:
    spoil(named)  # type: ignore[operator]
    before = sorted(named.path.rglob("*"))
    refused = command("train", "runs/first", *CPU, folder=named.path.parent.parent)
    assert refused.code == 1
    assert expected in refused.err.splitlines()[0]
    assert "Traceback" not in refused.err
    assert sorted(named.path.rglob("*")) == before


def test_a_broken_file_of_the_name_of_a_run_isnt_passed_over(named: Run) -> None:
    folder = named.path.parent.parent
    (folder / "experiments").mkdir()
    (folder / "experiments" / "first.py").write_text("1 / 0")
    refused = command("train", "first", *CPU, folder=folder)
    assert refused.code == 2
    assert "the file of that name is broken" in refused.err
