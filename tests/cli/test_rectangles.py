"""Rectangles from an array to samples, and pictures of other sizes, with the commands as they are typed."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ncsnx.sampling.sample_folder import samples_in
from tests.cli.command import run
from tests.training.tiny import training

QUICK = ("sampler.steps_per_level=1", "--threads", "1")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with digits of 8×12 pixels in digits.npy, and a finished training on them in runs/wide."""
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("wide")
    images = load_digits().images[:120].astype(np.uint8)
    np.save(folder / "digits.npy", np.concatenate([images, images[:, :, ::-1][:, :, :4]], axis=2))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        data = ("data=arrays", "data.path=digits.npy", "data.image_size=8,12", "data.high=16")
        trained = run(*training(*data, "steps=2", "checkpoint_every=2", "snapshots=none"), "--run", "wide").done()
        assert "arrays: 111 images of 1×8×12" in trained.err
    return folder


@pytest.fixture
def there(wide: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(wide)
    return wide


def shape_of(folder: str) -> list[int]:
    return list(samples_in(Path(folder)).read("samples").shape)


def test_samples_have_the_size_of_the_data_and_the_protocol_names_only_another(there: Path) -> None:
    own = run("sample", "wide", "--n", "2", *QUICK, "--json").done()
    assert "size" not in json.loads(own.out)
    assert shape_of(json.loads(own.out)["folder"]) == [2, 1, 8, 12]
    same = run("sample", "wide", "--n", "2", "--size", "8,12", *QUICK, "--json")
    assert "already sampled" in same.err
    assert "trained on" not in same.err
    other = run("sample", "wide", "--n", "2", "--size", "16,4", "--interpolate", "2", *QUICK, "--json").done()
    assert "the images have 16×4 pixels, but the network was trained on 8×12" in other.err
    assert json.loads(other.out)["size"] == [16, 4]
    assert shape_of(json.loads(other.out)["folder"]) == [4, 1, 16, 4]


def test_pictures_of_another_size_are_restored(there: Path) -> None:
    picture = np.concatenate(list(np.load("digits.npy")[:2] * 15), axis=0)
    Image.fromarray(picture).save("two.png")
    Image.fromarray((np.indices((16, 12))[1] >= 8).astype(np.uint8) * 255).save("mask.png")
    task = ("restore", "wide", "--inpaint", "two.png", "--mask", "mask.png", "--n", "2", "sampler=ald", *QUICK)
    refused = run(*task)
    assert refused.code == 1
    assert "two.png: expected a picture of 8×12 pixels (height × width), found 16×12" in refused.err
    made = run(*task, "--size", "16,12", "--json").done()
    found = json.loads(made.out)
    assert shape_of(found["folder"]) == [2, 1, 16, 12]
    given = np.asarray(Image.open("two.png"))[:, :8]
    for path in (Path(found["folder"]) / "images").glob("*.png"):
        assert np.abs(np.asarray(Image.open(path)).astype(int)[:, :8] - given).max() <= 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("sample", "wide", "--size", "9,12"), "error: --size 9,12: NCSNv2Network needs images whose height and width"),
        (("sample", "wide", "--size", "4", "sampler.data_init=true"), "the sampler starts from training images"),
        (("data", "show", "digits.npy", "--size", "8,13"), "--size must be at most 8,12"),
        (("new", "x", "--from", "digits.npy", "--size", "7,12"), "it needs multiples of 2, such as 6,12 or 8,12"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_another_size_is_refused_in_one_line(there: Path, words: tuple[str, ...], message: str) -> None:
    refused = run(*words)
    assert refused.code in (1, 2)
    assert message in refused.err
    assert len([line for line in refused.err.splitlines() if line.startswith("error:")]) == 1
    assert not (there / "runs" / "y").exists()
    assert not (there / "experiments").exists()


def test_an_experiment_is_written_for_rectangles_and_its_commands_can_be_typed(there: Path) -> None:
    packed = run("data", "pack", "digits.npy", "--out", "digits.pack")
    assert "data.image_size=8,12" in packed.err
    run(
        "new", "narrow", "--from", "digits.pack", "--size", "8,10", "--no-timing", "--steps", "5", "--out", "made"
    ).done()
    text = (there / "made" / "narrow.py").read_text()
    assert "image_size=(8, 10)," in text
    assert "random_crop=(8, 12)," in text
    shown = run("show", "made/narrow.py", "--json")
    assert '"image_size": [' in shown.out
    planned = json.loads(run("plan", "digits.pack", "--no-timing", "--json").out)
    assert (planned["image_size"], planned["dimensions"]) == ([8, 12], 96)


@pytest.mark.slow
def test_a_run_on_rectangles_is_measured_reported_and_exported(there: Path) -> None:
    for words in (
        ("loss", "wide", "--range", "latest"),
        ("likelihood", "wide", "--range", "latest", "--n", "2", "--tolerance", "0.1"),
        ("neighbors", "wide", "--features", "none", "--n", "3", "--ckpt", "latest", *QUICK),
        ("report", "wide"),
        ("export", "wide", "--ckpt", "latest", "--out", "exported"),
        ("doctor", "wide"),
    ):
        found = run(*words)
        assert found.code == 0, (words, found.err)
    assert "8×12" in (there / "exported" / "README.md").read_text()
    assert run("sample", "./exported", "--n", "1", "--size", "12,8", *QUICK).code == 0
