"""`ncsnx reference`: builds and shows the statistics of real images."""

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ncsnx.runs.folder import Run
from tests.cli.command import rows, run
from tests.cli.test_plan import write_pictures
from tests.config.examples import minimal
from tests.spaces import space_of
from tests.training.tiny import CPU, files

FEATURES = ("--features", "torchscript:net.pt", "--cache", "cache", *CPU)
AS_THEY_ARE = "features.image_size=none"
D = 4


class Corners(nn.Module):
    """A network of one's own: the means of the four quarters of an image."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(x.mean(dim=1, keepdim=True), 2).flatten(1)


@pytest.fixture
def place(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with net.pt in it and nothing else."""
    monkeypatch.delenv("NCSNX_CACHE", raising=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        torch.jit.save(torch.jit.script(Corners()), here / "net.pt")
    return here


def test_a_reference_is_built_once_and_shown_with_what_a_perfect_model_would_score(place: Path) -> None:
    built = run("reference", "digits", AS_THEY_ARE, *FEATURES).done()
    shown = rows(built.out)
    assert shown["reference"] == "digits, training images (1,498)"
    assert (shown["images"], shown["dimensions"]) == ("1,498", "4")
    assert re.fullmatch(
        r"FD \(TorchScript net\.pt [0-9a-f]{8}\) [0-9.e-]+ ± [0-9.e-]+ \(600 real images against the rest, "
        r"scaled to 1,000 against 1,498 images\)",
        shown["perfect model"],
    )
    assert (place / shown["where"] / "reference.safetensors").is_file()
    assert "digits, training images: 1,498 images in" in built.err

    held_out = ("--reference", "held-out", "--n", "50")
    shown = rows(run("reference", "digits", AS_THEY_ARE, *FEATURES, *held_out).out)
    assert shown["reference"] == "digits, held-out images (299)"
    assert shown["perfect model"].endswith("(50 real images against the rest)")

    before = files(place / "cache")
    again = run("reference", "digits", AS_THEY_ARE, *FEATURES)
    assert (again.out, again.err, files(place / "cache")) == (built.out, "", before)


def test_a_run_has_the_reference_of_the_data_that_it_recorded(place: Path) -> None:
    fingerprint = rows(run("reference", "digits", AS_THEY_ARE, *FEATURES).out)["fingerprint"]
    Run.create(place / "runs", "same", minimal(), {}, None, fingerprint, space_of(minimal().data))
    Run.create(place / "runs", "other", minimal(), {}, None, "f" * 64, space_of(minimal().data))
    same = run("reference", "runs/same", AS_THEY_ARE, *FEATURES)
    assert (same.code, same.err) == (0, "")
    other = run("reference", "other", AS_THEY_ARE, *FEATURES)
    assert (other.code, other.out) == (1, "")
    assert "the data is not that of the run" in other.err


def test_a_folder_of_images_is_a_reference(place: Path) -> None:
    folder = place / "pics [1].zip"
    write_pictures(folder, 5)
    outcome = run("reference", "digits", "--reference", "pics [1].zip", *FEATURES)
    assert run("reference", "./pics [1].zip", *FEATURES).out == outcome.out
    shown = rows(outcome.out)
    assert (outcome.code, shown["reference"], shown["images"]) == (0, f"folder {folder}", "5")


def test_a_file_of_statistics_is_checked_and_shown(place: Path) -> None:
    np.savez(place / "good.npz", mu=np.zeros(D), sigma=np.eye(D))
    shown = rows(run("reference", "good.npz", *FEATURES).out)
    assert (shown["reference"], shown["images"]) == ("file good.npz", "not recorded in the file")
    assert shown["perfect model"] == "unknown, since file good.npz holds mean and covariance only"
    assert json.loads(run("reference", "good.npz", *FEATURES, "--json").out)["perfect_model"] is None
    np.savez(place / "bad.npz", mu=np.zeros(D + 1), sigma=np.eye(D + 1))
    outcome = run("reference", "digits", *FEATURES, "--reference", "bad.npz")
    assert outcome.code == 1
    assert "error: bad.npz, array mu: expected real numbers of shape (4,)" in outcome.err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["pics"], "for the folder of images of that name:  ncsnx reference ./pics"),
        (["digits", "--reference", "tain"], "there is no folder or zip 'tain' for the reference; expected"),
        (["./pics", "--reference", "train"], "./pics is a reference itself; leave out --reference"),
    ],
)
def test_what_was_typed_wrong_is_one_line(place: Path, words: list[str], complaint: str) -> None:
    write_pictures(place / "pics", 5)
    outcome = run("reference", *words, *FEATURES)
    assert (outcome.code, outcome.out, outcome.err.count("error: ")) == (2, "", 1)
    assert complaint in outcome.err
