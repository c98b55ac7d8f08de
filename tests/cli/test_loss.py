"""`ncsnx loss` on a small run."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from ncsnx import load
from ncsnx.data import open_data
from ncsnx.evaluation.held_out_sweep import HeldOutSweep, level_of
from ncsnx.randomness import Purpose, Stream
from tests.training.tiny import CPU, Result, command

RUN = "runs/digits"


def loss(folder: Path, *words: str) -> Result:
    return command("loss", "digits", *words, *CPU, folder=folder)


def rows(folder: Path, *words: str) -> list[dict[str, Any]]:
    result = loss(folder, "--json", *words)
    assert result.code == 0, result.err
    return list(json.loads(result.out))


@pytest.fixture(scope="module")
def measured(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run whose losses are measured."""
    folder = tmp_path_factory.mktemp("measured")
    shutil.copytree(trained, folder, dirs_exist_ok=True)
    assert loss(folder, "--range", "8").code == 0
    return folder


def test_the_loss_is_that_of_every_held_out_image_at_every_level(measured: Path) -> None:
    """Computed by hand from the definition: ½ ‖σ s(x + σz, σ) + z‖², with the noise of the documented stream."""
    model = load(measured / RUN, ckpt=8)
    held_out = open_data(model.experiment.data, measured).held_out
    indices = torch.arange(len(held_out))
    x = held_out.read(indices).pixels / 16
    levels = len(model.network.noise_levels)
    total = torch.zeros(levels, dtype=torch.float64)
    for number in range(levels):
        noise = Stream(0, Purpose.HELD_OUT_NOISE).normal(indices, (1, 8, 8), step=number + 1)
        for level, sigma in enumerate(model.network.noise_levels):
            these = (indices + number) % levels == level
            z = noise[these]
            residual = sigma * model.score(x[these] + sigma * z, sigma) + z
            total[level] += 0.5 * residual.double().square().sum()
    expected = total / len(held_out)

    (row,) = rows(measured, "--range", "8")
    assert torch.tensor(row["levels"]) == pytest.approx(expected, rel=1e-5)
    assert row["score"] == pytest.approx(float(expected.mean()), rel=1e-5)
    assert row["protocol"]["passes"] == levels


def test_losses_are_kept_and_drawn(measured: Path) -> None:
    (sweep,) = (measured / RUN / "loss").iterdir()
    before = (sweep / "scores.json").read_bytes()
    result = loss(measured, "--range", "8")
    assert "1 checkpoint already measured" in result.err
    assert (sweep / "scores.json").read_bytes() == before
    assert len((sweep / "scores.csv").read_text().splitlines()) == 2
    assert "levels.3" in (sweep / "scores.csv").read_text()
    with Image.open(sweep / "losses.png") as plot:
        assert plot.size[0] > 1_000


def test_a_loss_that_no_score_can_be_leaves_one_checkpoint_out(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finite in float32, and beyond what rows hold: the others are measured all the same."""
    folder = Path(shutil.copytree(trained, tmp_path / "work"))
    first = iter([1e35])

    def by_level(self: HeldOutSweep, losses: torch.Tensor) -> list[float | None]:
        return [next(first, 1.0)] * len(self.sigmas)

    monkeypatch.setattr(HeldOutSweep, "_by_level", by_level)
    result = loss(folder, "--passes", "1")
    assert result.code == 1
    (line,) = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert "1 checkpoint without a score: step 4: its held-out loss is 1e+35, which is out of range" in line
    assert [row["score"] for row in rows(folder, "--range", "8:100", "--passes", "1")] == [1.0, 1.0]


def test_fewer_passes_look_at_every_level_still(workplace: Path) -> None:
    (row,) = rows(workplace, "--range", "12", "--passes", "1")
    assert all(level is not None for level in row["levels"])
    assert row["protocol"]["passes"] == 1


@pytest.mark.slow
def test_the_batch_size_changes_the_loss_by_rounding_only(measured: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(measured, tmp_path / "work"))
    shutil.rmtree(folder / RUN / "loss")
    (row,), (other,) = rows(folder, "--range", "8", "--batch-size", "33"), rows(measured, "--range", "8")
    assert row["levels"] == pytest.approx(other["levels"], rel=1e-5)


@pytest.mark.parametrize(("passes", "levels"), [(1, 7), (3, 7), (7, 7), (2, 232)])
def test_passes_are_spread_evenly_over_the_levels(passes: int, levels: int) -> None:
    images = 5 * levels
    seen = torch.stack([level_of(torch.arange(images), number, passes, levels) for number in range(passes)])
    assert torch.bincount(seen.flatten(), minlength=levels).tolist() == [5 * passes] * levels
    for image in seen.T:
        assert len(set(image.tolist())) == passes


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--passes", "5"), "--passes must be between 1 and the 4 levels"),
        (("--batch-size", "0"), "--batch-size must be between"),
    ],
)
def test_what_cannot_be_is_one_clear_line(measured: Path, words: tuple[str, ...], expected: str) -> None:
    result = loss(measured, *words)
    assert result.code == 2
    assert expected in result.err
