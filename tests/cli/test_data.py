"""`ncsnx data`: packs, checks, shows and downloads data sets."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from ncsnx.data.readers.packed import PackedFolder
from tests.cli.command import rows, run
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


def facts(*arguments: str) -> Any:
    outcome = run("data", *arguments, "--json", "--quiet")
    assert (outcome.code, outcome.err) == (0, "")
    return json.loads(outcome.out)


def test_a_folder_is_packed_checked_shown_and_read(place: Path) -> None:
    packed = run("data", "pack", "pics", "--size", "16", "--out", "p.pack", "--held-out", "0.3", "--json").done()
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
    assert facts("check", "p.pack") == {"source": "p.pack", "read": 12}

    pixels = ("mean", "standard_deviation", "labels", "train", "held_out", "shape")
    from_files = facts("show", "pics", "--size", "16", "--held-out", "0.3")
    from_packed = facts("show", "p.pack")
    assert {key: from_files[key] for key in pixels} == {key: from_packed[key] for key in pixels}


def test_training_from_a_packed_experiment_gives_the_same_weights(trained: Path, here: Path) -> None:
    packed = run("data", "pack", "digits", "data.random_flip=true", "--out", "d [1].pack", "--workers", "2")
    (line,) = (line for line in packed.err.splitlines() if line.startswith("to train from it:  "))
    changes = shlex.split(line.removeprefix("to train from it:  ncsnx train EXPERIMENT "))
    assert changes[:2] == ["data=packed", "data.path=d [1].pack"]
    assert changes.pop() == "data.random_flip=true", "what the experiment does to pixels"
    words = training("steps=4", "snapshots=none")
    assert command(*words[:2], *changes, *words[2:], folder=here).code == 0
    decoded, from_file = (saved(folder / "runs/digits", 4) for folder in (trained, here))
    for name in ("model.safetensors", "ema.safetensors", "optimizer.safetensors"):
        assert decoded[name] == from_file[name]


def test_damage_is_named_and_fails(here: Path) -> None:
    assert run("data", "pack", "digits", "--out", "d.pack").code == 0
    damage(here / "d.pack/pixels.npy")
    outcome = run("data", "check", "d.pack")
    assert (outcome.code, outcome.out) == (1, "")
    assert "d.pack: found damage in pixels.npy" in outcome.err


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
    shown = rows(outcome.out)
    assert outcome.code == 0
    assert (shown["data"], shown["shape"]) == ("pics", "3×21×21")
    assert shown["labels"] == "cat: 6, dog: 6"
    assert shown["files"] == "12 RGB; from 24×20 to 35×31 pixels; 0 gray"
    assert shown["not read"] == "1 file was not read: 1 .svg"
    assert "contact sheet: pics-sheet.png" in outcome.err


@pytest.mark.usefixtures("place")
def test_patches_are_shown_with_their_number_and_scales() -> None:
    words = ("data=images", "data.root=pics", "data.image_size=8", "data.patches=true")
    shown = rows(run("data", "show", "digits", *words).out)
    assert (shown["shape"], shown["patches"]) == ("3×8×8", "cut from these at scale 1")
    fits = sum((20 + number) // 8 * ((24 + number) // 8) for number in range(COUNT))
    assert int(shown["training images"]) + int(shown["held out"]) == fits


def test_the_contact_sheet_shows_as_many_images_as_are_wanted_by_the_seed(here: Path) -> None:
    for seed in ("0", "1"):
        assert run("data", "show", "digits", "--n", "9", "--seed", seed, "--out", f"{seed}.png").code == 0
    with Image.open("0.png") as first, Image.open("1.png") as second:
        assert first.size == (3 * 66 + 2, 3 * 66 + 2)
        assert first.tobytes() != second.tobytes()


def test_what_cant_be_downloaded_says_why(here: Path) -> None:
    outcome = run("data", "download", "ffhq256", "--data", "elsewhere")
    assert (outcome.code, outcome.out) == (1, "")
    assert str(Path("elsewhere") / "ffhq") in outcome.err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["pack", "pics", "--out", "p"], "pics: the size of the images is not given"),
        (["pack", "pics", "--out", "p", "--size", "0"], "--size: expected a size between 1 and 16,384, such as 64"),
        (["pack", "pics", "data.random_flip=true", "--out", "p", "--size", "8"], "pics is not an experiment"),
        (["pack", "digits", "--out", "p", "--size", "8"], "--size goes with your own images, but digits is"),
        (["show", "digits", "--out", "sheet.jpg"], "--out sheet.jpg: the contact sheet is a PNG"),
        (["show", "digits", "--out", "pics/cat/01.png"], "--out pics/cat/01.png already exists; name another file"),
        (["show", "digits", "--n", "1.5"], "--n: must be a whole number, such as 5000 or 5k, not '1.5'"),
        (["show", "digits", "--n", "1_0k"], "--n must be between 1 and 1,024, not 10,000"),
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
