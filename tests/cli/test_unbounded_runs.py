"""Commands on unbounded data, from an array of negative and positive floats to samples in its own values."""

import json
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from PIL import Image

import ncsnx
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import checkpoints
from ncsnx.sampling.sample_folder import samples_in
from tests.cli.command import run
from tests.published import golden_path
from tests.training.tiny import CPU, command, overrides

DATA = ("data=arrays", "data.path=x.npy", "data.image_size=8", "data.range=unbounded")
STEPS = ("steps=4", "eval_every=4", "snapshots=none")
QUIETLY = ("--no-report", *CPU)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with x.npy, of 60 smooth fields from about −90 to 90, and the run digits, trained on it."""
    folder = tmp_path_factory.mktemp("unbounded")
    generator = np.random.default_rng(0)
    phases = generator.uniform(0, 2 * np.pi, (60, 2, 1, 1))
    rows, columns = np.mgrid[:8, :8]
    fields = 90 * np.sin(rows / 2 + phases[:, 0]) * np.cos(columns / 3 + phases[:, 1])
    np.save(folder / "x.npy", fields.astype("f4"))
    command("train", "digits", *overrides(*DATA, *STEPS), *QUIETLY, folder=folder).done()
    return folder


def test_a_run_measures_its_space_once_and_a_later_window_changes_pictures_alone(copied: Path) -> None:
    trained = Run(copied / "runs" / "digits")
    space, words = trained.space(), (*DATA, *STEPS)
    assert 80 < space.scale < 91
    assert space.window == (-space.scale, space.scale)
    assert trained.experiment().data.scale is None

    command("train", "digits", *overrides(*words, "steps=5"), *QUIETLY, folder=copied).done()
    assert checkpoints(trained) == [4, 5]
    assert trained.space() == space

    shown = command("train", "digits", *overrides(*words, "steps=6", "data.window_high=7"), *QUIETLY, folder=copied)
    assert shown.code == 0, shown.err
    assert trained.space() == attrs.evolve(space, window=(-space.scale, 7))
    command("train", "digits", *overrides(*words, "steps=7"), *QUIETLY, folder=copied).done()
    assert trained.space() == space

    other = command("train", "digits", *overrides(*words, "data.scale=2"), *CPU, folder=copied)
    assert other.code == 2
    assert "data.scale" in other.err


def test_a_run_derived_on_larger_data_measures_its_own_scale(copied: Path) -> None:
    np.save(copied / "larger.npy", 100 * np.load(copied / "x.npy"))
    derived = run("train", "runs/digits", "data.path=larger.npy", "steps=2", "--run", "larger", *CPU).done()
    before, after = (Run(copied / "runs" / name).space() for name in ("digits", "larger"))
    assert after.scale == pytest.approx(100 * before.scale, rel=1e-5)
    assert f"in units of {after.scale:g}" in derived.err
    assert after.sigma_data == pytest.approx(before.sigma_data, rel=1e-3)


def test_samples_are_in_own_values_and_pictures_show_a_window_that_is_said(copied: Path) -> None:
    sampled = run("sample", "digits", "--n", "3", "--frames", "2", "--film", "--out", "drawn", *CPU).done()
    values = samples_in(copied / "drawn").read("samples")
    window = Run(copied / "runs" / "digits").space().pictures
    assert f"pictures show {window}" in sampled.err
    protocol = json.loads((copied / "drawn" / "protocol.json").read_text())
    assert (protocol["values"], protocol["scale"]) == ("own", window.high)
    assert protocol["window"] == [window.low, window.high]
    assert values.dtype == torch.float32
    assert float(values.min()) < window.low  # an untrained network's samples leave the window, unclamped
    shown = np.asarray(Image.open(copied / "drawn" / "images" / "00000.png"))
    expected = ((values[0, 0] - window.low) / (window.high - window.low)).clamp(0, 1) * 255
    assert np.array_equal(shown, expected.round().numpy().astype("u1"))


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("fid", "digits", "--n", "20"), "Inception compares pictures between black and white"),
        (("likelihood", "digits", "--n", "5"), "the data is unbounded (data.range), so it has no gray levels"),
    ],
)
def test_what_needs_black_and_white_is_refused(copied: Path, words: tuple[str, ...], complaint: str) -> None:
    outcome = run(*words, *CPU)
    assert outcome.code == 1
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {complaint}")


def test_an_array_of_any_floats_is_packed_as_it_is_and_read_alike(copied: Path) -> None:
    packed = run("data", "pack", "x.npy", "--out", "x.pack").done()
    assert packed.err.endswith("data.image_size=8 data.channels=1 data.range=unbounded\n")
    assert run("data", "check", "x.pack").code == 0
    shown = [json.loads(run("data", "show", name, "--json").out) for name in ("x.npy", "x.pack")]
    for fact in ("least", "most", "mean", "value_range", "dtype", "train"):
        assert shown[0][fact] == shown[1][fact]
    wrong = run("data", "show", "digits", "data=packed", "data.path=x.pack", "data.image_size=8", "data.channels=1")
    assert wrong.code == 1
    assert "its values are unbounded" in wrong.err
    run("new", "mine", "--from", "x.pack", "--no-timing", "--budget", "none").done()
    scale = shown[0]["value_range"][1]
    source = (copied / "experiments" / "mine.py").read_text()
    assert "range='unbounded'" in source
    assert f"scale={scale!r}" in source


def test_an_imported_network_of_own_values_gives_the_scores_of_the_bounded_import(copied: Path) -> None:
    small = ("model.width=4", "schedule.levels=10")
    own = ("data=arrays", "data.path=k.npy", "data.image_size=32", "data.channels=3", "data.range=unbounded")
    file = str(golden_path("ncsnv2"))
    without = run("import", file, "cifar10", *small, *own, "--run", "own")
    assert without.code == 1
    assert "the scale of the unbounded data is not known" in without.err
    assert not (copied / "runs" / "own").exists()
    assert run("import", file, "cifar10", *small, *own, "data.scale=1", "--run", "own").code == 0
    assert run("import", file, "cifar10", *small, "--run", "pictures").code == 0
    x = 100 * torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    theirs, ours = ncsnx.load("pictures"), ncsnx.load("own")
    assert torch.equal(ours.to_network(x), x)
    assert torch.equal(ours.score(ours.to_network(x), 1.0), theirs.score(x, 1.0))
    assert torch.equal(ours.from_network(x), x)
