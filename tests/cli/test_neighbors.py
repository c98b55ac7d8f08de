"""`ncsnx neighbors`: the samples are those of `sample`, what is written, and what is said of few images."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ncsnx.config import Digits
from ncsnx.data.readers.digits import read_digits
from ncsnx.evaluation.neighbor_search import NeighborSearch
from ncsnx.images import to_uint8
from ncsnx.runs.folder import Run
from ncsnx.runs.ledger import Ledger
from ncsnx.sampling.sample_folder import samples_in
from tests.cli.drawing import error
from tests.training.tiny import CPU, Result, command, files, training

RUN = "runs/digits"
JUDGE = ("features.steps=30", "features.width=8")
SMALL = ("--n", "6", "--k", "3", "--batch-size", "4", *JUDGE, *CPU)


def neighbors(folder: Path, *words: str, run: str = "digits") -> Result:
    return command("neighbors", run, *words, folder=folder)


@pytest.fixture(scope="module")
def searched(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run whose samples' neighbors were looked for. Not to be changed."""
    folder = tmp_path_factory.mktemp("searched")
    shutil.copytree(trained, folder, dirs_exist_ok=True)
    neighbors(folder, *SMALL).done()
    return folder


def place(folder: Path) -> Path:
    (found,) = (folder / RUN / "neighbors").iterdir()
    return found


def table(folder: Path) -> list[dict[str, str]]:
    with (place(folder) / "distances.csv").open() as file:
        return list(csv.DictReader(file))


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / RUN / "measurements.jsonl").read_text().splitlines()[-1])
    return dict(found["values"])


def protocol_of(folder: Path) -> dict[str, Any]:
    """The whole protocol."""
    (series,) = Ledger.read(Run(folder / RUN)).series("neighbors")
    return series.facts


def as_pictures(images: Tensor) -> Tensor:
    """Digits, 0 to 16, as 8-bit pictures with values in [0, 1]."""
    return to_uint8(images.float() / 16).double() / 255


def test_the_neighbors_are_those_of_the_samples_that_sample_draws(searched: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(searched, tmp_path / "work"))
    assert command("sample", "digits", "--n", "6", "--batch-size", "4", "--out", "drawn", *CPU, folder=folder).code == 0
    drawn = to_uint8(samples_in(folder / "drawn").read("samples")).double() / 255
    splits = read_digits(Digits(), Path())
    train, held_out = (split.read(torch.arange(len(split))) for split in (splits.train, splits.held_out))
    for name, images, k in (("sample", drawn, 3), ("held-out", as_pictures(held_out.pixels), 1)):
        distances = (images[:, None] - as_pictures(train.pixels)).square().sum(dim=(2, 3, 4)).sqrt()
        expected = distances.topk(k, largest=False)
        rows = [row for row in table(searched) if (row["set"], row["space"]) == (name, "pixels")]
        assert [int(row["image"]) for row in rows] == [image for image in range(len(images)) for _ in range(k)]
        given = torch.tensor([float(row["distance"]) for row in rows], dtype=torch.float64).view(-1, k)
        torch.testing.assert_close(given, expected.values, rtol=1e-7, atol=1e-12)
        chosen = torch.tensor([int(row["training_image"]) for row in rows])
        torch.testing.assert_close(distances.gather(1, chosen.view(-1, k)), expected.values, rtol=1e-12, atol=1e-12)
        assert torch.equal(train.ids[chosen], torch.tensor([int(row["id"]) for row in rows]))
        assert all(row["flipped"] == "0" for row in rows)


def test_the_results_say_by_which_protocol_and_what_follows(searched: Path) -> None:
    found, protocol = results(searched), protocol_of(searched)
    expected = {"step": 12, "n": 6, "k": 3, "seed": 0, "weights": "ema", "held_out": 299, "flips": False}
    assert expected.items() <= protocol.items()
    assert (protocol["training"]["split"], protocol["training"]["images"]) == ("train", 1_498)
    assert found["verdict"]["kind"] == "undecided", "six samples exclude little"
    assert found["spaces"].keys() == {"pixels", "features"}
    for space in found["spaces"].values():
        for measure in (space["distance"], space["relative"]):
            assert measure["median"] > measure["held_out_median"] > 0, "of a network that has learned nothing yet"
            assert all(0.5 < measure[key] <= 1 for key in ("pairs_probability", "tail_probability"))


def drawn(result: Result) -> bool:
    """Whether samples were drawn."""
    assert result.code == 0, result.err
    assert ("1 search already measured" in result.err) != ("sampling: " in result.err)
    return "sampling: " in result.err


def test_what_was_found_is_shown_again_without_drawing(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ((), ("--json",))
    first = [neighbors(workplace, *SMALL, *words) for words in options]
    before = files(place(workplace))
    shown = json.loads(first[1].out)
    assert {key: shown[key] for key in ("verdict", "evaluations", "spaces")} == results(workplace)
    assert shown["protocol"] == protocol_of(workplace)
    assert [line.split("  ")[0] for line in first[0].out.splitlines()[1:]] == [
        "pixels", "pixels, relative", "features", "features, relative",
    ]  # fmt: skip
    monkeypatch.setattr(NeighborSearch, "parts", None)
    monkeypatch.setattr(NeighborSearch, "measured", None)
    again = [neighbors(workplace, *SMALL, *words) for words in options]
    assert [result.out for result in again] == [result.out for result in first]
    assert [drawn(result) for result in again] == [False, False]
    verdict = f"verdict: {results(workplace)['verdict']['words']}"
    assert verdict in first[0].err
    assert verdict in again[0].err
    assert files(place(workplace)) == before


def test_pictures_are_drawn_and_the_doctor_is_content(searched: Path, tmp_path: Path) -> None:
    assert {path.name for path in place(searched).iterdir()} >= {"grid.png", "distances.png", "distances.svg"}
    with Image.open(place(searched) / "grid.png") as grid:
        assert min(grid.size) > 6 * 48
    folder = Path(shutil.copytree(searched, tmp_path / "work"))
    (place(folder) / "grid.png").unlink()
    assert drawn(neighbors(folder, *SMALL)), "it is made again"
    assert (place(folder) / "grid.png").is_file()
    examined = command("doctor", "digits", folder=folder)
    assert (examined.code, examined.out) == (0, "")


def test_mirror_images_a_sampler_and_a_checkpoint_are_those_that_are_asked_for(workplace: Path) -> None:
    words = ("sampler=dpmpp", "sampler.steps=2", "--ckpt", "8", "--features", "none", "--n", "9", "--held-out", "20")
    result = neighbors(workplace, *words, "--flips", "--seed", "3", *CPU).done()
    assert "1,498 training images and their mirror images" in result.err
    assert {row["flipped"] for row in table(workplace)} == {"0", "1"}
    found, protocol = results(workplace), protocol_of(workplace)
    assert protocol["sampler"]["type"] == "dpmpp"
    assert (protocol["step"], protocol["features"]) == (8, None)
    assert (protocol["held_out"], protocol["flips"]) == (20, True)
    assert found["spaces"].keys() == {"pixels"}


def test_without_held_out_images_the_neighbors_alone_are_shown(tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", np.random.default_rng(0).random((20, 8, 8)))
    data = ("data=arrays", "data.path=few.npy", "data.image_size=8", "data.held_out=0")
    assert command(*training(*data, "steps=1", "snapshots=none"), folder=tmp_path).code == 0
    few = ("--n", "2", "--features", "none", *CPU)
    assert "--k 50: the data set has 20 training images" in error(neighbors(tmp_path, *few, "--k", "50"))
    result = neighbors(tmp_path, *few).done()
    assert "the data set has no held-out images to compare with, so look at the grid" in result.err
    assert results(tmp_path)["verdict"] is None


IMAGES, HELD_OUT = 416, 0.85
"""Share of the digits that is held out by the hashes of their places: all but 50."""
TRAINING = (
    *("model.width=16", "batch_size=32", "optimizer.lr=1e-3", "warmup_steps=50", "ema.rate=0.95"),
    *("schedule.levels=6", "schedule.sigma_max=2", "schedule.sigma_min=0.1"),
    *("steps=1000", "checkpoint_every=1000", "eval_every=1000", "snapshots=none"),
)
"""A narrow network and few noise levels: what remembers soon."""
SEARCH = ("sampler=cas", "sampler.steps=60", "--n", "64", "--k", "3", "features.steps=100", "features.width=8")


def judged(folder: Path, run: str, *data: str) -> dict[str, Any]:
    """Results of `ncsnx neighbors` for a model that is trained now."""
    result = command("train", "digits", *data, *TRAINING, f"--run={run}", *CPU, folder=folder).done()
    result = command("neighbors", run, *SEARCH, "--features", "classifier", "--json", *CPU, folder=folder).done()
    found: dict[str, Any] = json.loads(result.out)
    return found


@pytest.mark.slow
def test_a_model_that_was_trained_to_remember_50_digits_is_caught_and_one_that_saw_all_is_not(tmp_path: Path) -> None:
    digits = read_digits(Digits(), Path()).train.read(torch.arange(IMAGES))
    np.savez(tmp_path / "few.npz", images=digits.pixels.numpy(), labels=digits.labels.numpy())
    data = ("data=arrays", "data.path=few.npz", "data.array=images", "data.image_size=8", "data.high=16")
    found = judged(tmp_path, "few", *data, f"data.held_out={HELD_OUT}")
    assert found["protocol"]["training"]["images"] == 50
    assert found["verdict"]["kind"] == "memorizing"
    for space in found["spaces"].values():
        assert space["distance"]["nearer"] > 0.8
        assert space["relative"]["nearer"] > 0.5
    found = judged(tmp_path, "all")
    assert found["protocol"]["training"]["images"] == 1_498
    assert found["verdict"]["kind"] == "no sign"
    for space in found["spaces"].values():
        assert space["distance"]["nearer"] < 0.6
