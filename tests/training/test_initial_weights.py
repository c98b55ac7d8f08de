"""Training from the weights of a model: a new run that is resumed like any other and says where it started."""

import json
import shutil
from pathlib import Path

import pytest

from ncsnx.config.discovery import resolve
from ncsnx.errors import NcsnxError
from ncsnx.runs.checkpoint import read_checkpoint
from ncsnx.runs.folder import Run, read_origins
from ncsnx.runs.names import step_name
from ncsnx.runtime import Runtime
from ncsnx.training.initial_weights import initial_weights
from ncsnx.training.training_state import TrainingState
from tests.training.tiny import CPU, command, saved, training

WEIGHTS = ("model", "ema", "optimizer")


@pytest.fixture(scope="module")
def source(trained: Path) -> Path:
    """A finished run."""
    return trained / "runs" / "digits"


def tuned(folder: Path, source: Path, name: str, *words: str) -> Run:
    """A training of `digits` from the weights of another run."""
    start = ("--from", str(source), "--run", name)
    command(*training("seed=5", "snapshots=none", *words), *start, folder=folder).done()
    return Run(folder / "runs" / name)


def test_it_starts_with_the_averaged_weights_and_a_fresh_optimizer(source: Path, tmp_path: Path) -> None:
    run = Run(source)
    initial = initial_weights(run.experiment(), run)
    state = TrainingState(initial.experiment, Runtime.choose(device="cpu"), run.space())
    state.start_from(initial)
    average = read_checkpoint(run.checkpoints / step_name(run.steps()[-1])).ema
    assert average is not None
    assert state.average is not None
    for name, tensor in average.items():
        assert state.network.state_dict()[name].equal(tensor)
        assert state.average.tensors()[name].equal(tensor)
    assert (state.step, len(state.optimizer.state)) == (0, 0)


def test_a_resumed_one_ends_with_the_same_bits_and_needs_its_source_no_more(source: Path, tmp_path: Path) -> None:
    straight = tuned(tmp_path, source, "straight", "steps=8")
    resumed = tuned(tmp_path, source, "resumed", "steps=4")
    assert command("train", "runs/resumed", "steps=8", *CPU, folder=tmp_path).code == 0
    for part in WEIGHTS:
        file = f"{step_name(8)}/{part}.safetensors"
        assert (straight.checkpoints / file).read_bytes() == (resumed.checkpoints / file).read_bytes()
    state = json.loads((straight.checkpoints / step_name(8) / "state.json").read_text())
    assert state["imported"]["is_start"] is True
    shown = command("show", "runs/straight", "--origins", folder=tmp_path).out
    assert "weights of digits" in shown
    assert command("export", "straight", "--out", str(tmp_path / "out"), "--grid", "0", folder=tmp_path).code == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "trained further from" in card
    assert str(source.parent) not in card


def test_other_weights_are_another_run_and_without_its_source_it_cannot_begin(source: Path, tmp_path: Path) -> None:
    run = tuned(tmp_path, source, "tuned", "steps=4")
    refused = command(*training("seed=5", "steps=4"), "--run", "tuned", folder=tmp_path)
    assert refused.code == 2
    assert "initial_weights: " in refused.err
    for step in run.steps():
        for file in (run.checkpoints / step_name(step)).iterdir():
            file.unlink()
        (run.checkpoints / step_name(step)).rmdir()
    run.segments_path.unlink()
    refused = command("train", "runs/tuned", *CPU, folder=tmp_path)
    assert refused.code == 1
    assert "starts from weights that it has no checkpoint of yet" in refused.err
    assert "--from RUN" in refused.err


def test_the_same_command_resumes_when_its_source_was_trained_further_or_is_gone(trained: Path, tmp_path: Path) -> None:
    source = shutil.copytree(trained / "runs" / "digits", tmp_path / "runs" / "other")
    run = tuned(tmp_path, source, "tuned", "steps=4")
    command("train", "runs/other", "steps=13", "snapshots=none", *CPU, folder=tmp_path).done()
    tuned(tmp_path, source, "tuned", "steps=5")
    shutil.rmtree(source)
    tuned(tmp_path, source, "tuned", "steps=6")
    assert run.steps()[-1] == 6
    assert read_origins(run.origins_path)["initial_weights"] == "weights of other"
    words = [*training("seed=5", "steps=6", "snapshots=none"), "--run", "tuned", "--from"]
    assert "there is no run" in command(*words, "another", folder=tmp_path).err
    refused = command(*words, str(source), "model.width=8", folder=tmp_path)
    assert refused.code == 2


def test_a_run_from_its_configuration_starts_from_the_same_weights(trained: Path, tmp_path: Path) -> None:
    source = shutil.copytree(trained / "runs" / "digits", tmp_path / "runs" / "other")
    run = tuned(tmp_path, source, "warm", "steps=4")
    command("train", "runs/other", "steps=13", "snapshots=none", *CPU, folder=tmp_path).done()
    command("train", "runs/warm", "--run", "warm2", *CPU, folder=tmp_path).done()
    same = Run(tmp_path / "runs" / "warm2")
    assert saved(same.path, 4)["model.safetensors"] == saved(run.path, 4)["model.safetensors"]
    command("sweep", "runs/warm", "--seeds", "2", *CPU, folder=tmp_path).done()
    shutil.rmtree(source)
    command("train", "runs/warm", "--run", "warm2", *CPU, folder=tmp_path).done()
    refused = command("train", "runs/warm", "--run", "warm3", *CPU, folder=tmp_path)
    assert refused.code == 1
    assert "the weights that runs/warm started from are not beside it" in refused.err
    assert not (tmp_path / "runs" / "warm3").exists()


def test_images_of_another_shape_are_refused(source: Path) -> None:
    with pytest.raises(NcsnxError, match=r"has images of .* and cifar10 of"):
        initial_weights(resolve("cifar10").experiment, Run(source))
