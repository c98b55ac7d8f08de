"""`ncsnx data`: packs, checks, shows and downloads data sets."""

import json
import re
import resource
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from ncsnx.data.readers.packed import PackedFolder
from tests.cli.command import run
from tests.training.tiny import command, damage, saved, training

COUNT = 12


@pytest.fixture
def place(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a cache of its own and pictures in pics/cat and pics/dog: 20×24 to 31×35 pixels."""
    monkeypatch.setenv("NCSNX_CACHE", str(here / "cache"))
    pictures(here / "pics")
    return here


def pictures(folder: Path) -> None:
    chance = np.random.default_rng(0)
    for number in range(COUNT):
        kind = folder / ("cat" if number % 2 else "dog")
        kind.mkdir(parents=True, exist_ok=True)
        values = chance.integers(0, 256, (20 + number, 24 + number, 3), dtype=np.uint8)
        Image.fromarray(values).save(kind / f"{number:02d}.png")


def table(text: str) -> dict[str, str]:
    """The lines of a table of two columns."""
    return dict(re.split(" {2,}", line, maxsplit=1) for line in text.splitlines())


def facts(*arguments: str) -> Any:
    outcome = run("data", *arguments, "--json", "--quiet")
    assert (outcome.code, outcome.err) == (0, "")
    return json.loads(outcome.out)


# ------------------------------------------------------------------------------------------------------- pack


def test_a_folder_is_packed_checked_shown_and_read(place: Path) -> None:
    packed = run("data", "pack", "pics", "--size", "16", "--out", "p.pack", "--held-out", "0.3", "--json")
    assert packed.code == 0
    file = PackedFolder.open(place / "p.pack")
    header = file.record
    assert (header.count, header.channels, header.size) == (COUNT, 3, 16)
    assert 0 < header.train < COUNT
    assert f"p.pack: {header.train} training images and {COUNT - header.train} held out, of 3×16×16" in packed.err
    assert "to train from it:  ncsnx train EXPERIMENT data=packed data.path=p.pack data.image_size=16" in packed.err
    assert json.loads(packed.out) == {
        "path": "p.pack",
        "fingerprint": file.fingerprint,
        "train": header.train,
        "held_out": COUNT - header.train,
        "channels": 3,
        "size": 16,
        "bytes": sum(path.stat().st_size for path in (place / "p.pack").iterdir()),
    }

    checked = run("data", "check", "p.pack")
    assert (checked.code, checked.out) == (0, "")
    assert "p.pack: 12 packed images; no damage found" in checked.err

    pixels = ("mean", "standard_deviation", "labels", "train", "held_out", "shape")
    from_files = facts("show", "pics", "--size", "16", "--held-out", "0.3")
    from_packed = facts("show", "p.pack")
    assert {key: from_files[key] for key in pixels} == {key: from_packed[key] for key in pixels}


def test_training_from_a_packed_experiment_gives_the_same_weights(trained: Path, here: Path) -> None:
    packed = run("data", "pack", "digits", "--out", "d [1].pack", "--workers", "2")
    (line,) = (line for line in packed.err.splitlines() if line.startswith("to train from it:  "))
    changes = shlex.split(line.removeprefix("to train from it:  ncsnx train EXPERIMENT "))
    assert changes[:2] == ["data=packed", "data.path=d [1].pack"]
    words = training("steps=4", "snapshots=none")
    assert command(*words[:2], *changes, *words[2:], folder=here).code == 0
    decoded, from_file = (saved(folder / "runs/digits", 4) for folder in (trained, here))
    for name in ("model.safetensors", "ema.safetensors", "optimizer.safetensors"):
        assert decoded[name] == from_file[name]


def test_what_an_experiment_does_to_pixels_goes_into_the_command_to_train(here: Path) -> None:
    changes = ("data.random_flip=true", "data.dequantization=uniform")
    packed = run("data", "pack", "digits", *changes, "--out", "d.pack")
    words = "data=packed data.path=d.pack data.image_size=8 data.channels=1 "
    assert f"{words}data.random_flip=true data.dequantization=uniform" in packed.err


def test_a_disk_that_is_full_is_one_line(here: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100 * 1024, before[1]))
    try:
        outcome = run("data", "pack", "digits", "--out", "d.pack")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (outcome.code, outcome.out) == (1, "")
    (line,) = outcome.err.splitlines()
    assert re.match(r"error: cannot write d\.pack \(\d+,\d+ bytes\): File too large; ", line)
    assert not (here / "d.pack").exists()


def test_packed_data_is_never_replaced_unasked(place: Path) -> None:
    words = ("data", "pack", "pics", "--size", "16", "--out", "p.pack")
    assert run(*words).code == 0
    before = (place / "p.pack").stat().st_mtime_ns
    assert run(*words, "--held-out", "0.5").code == 2
    assert (place / "p.pack").stat().st_mtime_ns == before
    assert run(*words, "--held-out", "0.5", "--overwrite").code == 0
    assert (place / "p.pack").stat().st_mtime_ns > before


def test_broken_pictures_refuse_the_set_or_are_skipped(place: Path) -> None:
    (place / "pics/cat/[red]x.png").write_bytes(b"no picture")
    words = ("data", "pack", "pics", "--size", "16", "--out", "p.pack")
    for refused in (run("data", "check", "pics"), run(*words)):
        assert (refused.code, refused.out) == (1, "")
        assert "cat/[red]x.png" in refused.err
    assert not (place / "p.pack").exists()
    skipped = run(*words, "--on-error", "skip")
    assert skipped.code == 0
    assert PackedFolder.open(place / "p.pack").record.count == COUNT
    assert "cat/[red]x.png" in skipped.err


# ------------------------------------------------------------------------------------------------------ check


def test_damage_is_named_and_fails(here: Path) -> None:
    assert run("data", "pack", "digits", "--out", "d.pack").code == 0
    damage(here / "d.pack/pixels.npy")
    outcome = run("data", "check", "d.pack")
    assert (outcome.code, outcome.out) == (1, "")
    assert "d.pack: found damage in pixels.npy" in outcome.err


def test_the_data_of_an_experiment_is_read_once(here: Path) -> None:
    outcome = run("data", "check", "digits")
    assert (outcome.code, outcome.out) == (0, "")
    assert "digits: 1,797 images; no damage found" in outcome.err


def test_of_many_labels_the_first_are_shown(here: Path) -> None:
    np.savez(here / "a.npz", images=np.zeros((30, 1, 8, 8), np.uint8), labels=np.arange(30))
    rows = table(run("data", "show", "a.npz").out)
    assert rows["labels"].endswith(", 19: 1, … and 10 more")


# ------------------------------------------------------------------------------------------------------- show


def test_the_numbers_of_the_digits_are_those_of_scikit_learn(here: Path) -> None:
    shown, digits = facts("show", "digits", "--out", "sheet.png"), load_digits()
    assert (shown["train"], shown["held_out"], shown["shape"]) == (1498, 299, [1, 8, 8])
    assert (shown["dtype"], shown["value_range"], shown["least"], shown["most"]) == ("uint8", [0, 16], 0, 16)
    assert shown["labels"] == {str(label): int((digits.target == label).sum()) for label in range(10)}
    # sums of 1e5 terms in float64
    assert shown["mean"] == [pytest.approx(digits.images.mean() / 16, rel=1e-10)]
    assert shown["standard_deviation"] == [pytest.approx(digits.images.std() / 16, rel=1e-10)]
    assert shown["pixel_bytes"] == 1797 * 64
    assert shown["contact_sheet"] == "sheet.png"


def test_a_folder_is_shown_with_its_original_sizes_and_what_is_not_read(place: Path) -> None:
    (place / "pics" / "logo.svg").write_bytes(b"<svg/>")
    outcome = run("data", "show", "pics")
    rows = table(outcome.out)
    assert outcome.code == 0
    assert (rows["data"], rows["shape"]) == ("pics", "3×21×21")
    assert rows["labels"] == "0: 6, 1: 6"
    assert rows["values"].startswith("uint8 from ")
    assert rows["files"] == "12 RGB; from 24×20 to 35×31 pixels; 0 grey"
    assert rows["not read"] == "1 file was not read: 1 .svg"
    assert "contact sheet: pics-sheet.png" in outcome.err
    assert facts("show", "pics")["files"] == {
        "modes": {"RGB": 12},
        "grey": 0,
        "smallest": [24, 20],
        "largest": [35, 31],
        "broken": 0,
        "not_read": {".svg": 1},
    }


def test_the_contact_sheet_shows_as_many_images_as_are_wanted_by_the_seed(here: Path) -> None:
    def sheet(*options: str) -> bytes:
        assert run("data", "show", "digits", "--out", "s.png", *options).code == 0
        return (here / "s.png").read_bytes()

    nine = sheet("--n", "9")
    with Image.open(here / "s.png") as picture:
        assert picture.size == (3 * 66 + 2, 3 * 66 + 2)
    assert sheet("--n", "9") == nine
    assert sheet("--n", "9", "--seed", "1") != nine


@pytest.mark.parametrize(
    ("words", "size"),
    [
        pytest.param(("--size", "40", "--held-out", "0"), (4 * 82 + 2, 3 * 82 + 2), id="fewer images than wanted"),
        pytest.param(("--size", "300", "--n", "4"), (2 * 258 + 2, 2 * 258 + 2), id="large images"),
    ],
)
def test_the_contact_sheet_fits_what_there_is(place: Path, words: tuple[str, ...], size: tuple[int, int]) -> None:
    assert run("data", "show", "pics", *words, "--out", "s.png").code == 0
    with Image.open(place / "s.png") as picture:
        assert picture.size == size


def test_arrays_of_any_depth_are_shown_in_units_of_black_and_white(here: Path) -> None:
    values = np.random.default_rng(0).normal(100, 20, (50, 2, 8, 8)).clip(1, 254).astype(np.float32)
    np.save(here / "a.npy", values)
    shown = facts("show", "a.npy")
    expected = values.astype(np.float64) / 255
    assert shown["dtype"] == "float32"
    assert shown["mean"] == pytest.approx(expected.mean(axis=(0, 2, 3)), rel=1e-10)
    assert shown["standard_deviation"] == pytest.approx(expected.std(axis=(0, 2, 3)), rel=1e-10)
    assert shown["labels"] == {}


# ------------------------------------------------------------------------------------------- download


def test_what_cant_be_downloaded_says_why(here: Path) -> None:
    outcome = run("data", "download", "ffhq256", "--data", "elsewhere")
    assert (outcome.code, outcome.out) == (1, "")
    assert str(Path("elsewhere") / "ffhq") in outcome.err


# ------------------------------------------------------------------------------------------------------- usage


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["pack", "pics", "--out", "p"], "pics: the size of the images is not given"),
        (["pack", "pics", "--out", "p", "--size", "0"], "--size: expected a size between 1 and 16,384, such as 64"),
        (["pack", "pics", "--out", "p", "--size", "8", "--held-out", "1"], "--held-out must be at least 0"),
        (["pack", "pics", "data.random_flip=true", "--out", "p", "--size", "8"], "pics is not an experiment"),
        (["pack", "digits", "--out", "p", "--size", "8"], "--size goes with your own images, but digits is"),
        (["pack", "nothing", "--out", "p", "--size", "8"], "no experiment is named 'nothing'"),
        (["show", "digits", "--out", "sheet.jpg"], "--out sheet.jpg: the contact sheet is a PNG"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_was_typed_wrong_is_one_line(place: Path, words: list[str], complaint: str) -> None:
    outcome = run("data", *words)
    assert (outcome.code, outcome.out) == (2, "")
    first, *hints = outcome.err[outcome.err.index("error: ") :].splitlines()
    assert complaint in first
    assert all(line.startswith("  ") for line in hints)
    assert not (place / "p").exists()
