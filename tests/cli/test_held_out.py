"""`ncsnx loss` and `ncsnx likelihood` on a small run: held-out images, measured."""

import json
import math
import shutil
import statistics
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from PIL import Image
from torch import Tensor

from ncsnx import load
from ncsnx.config import UNet
from ncsnx.data import open_data
from ncsnx.evaluation import likelihood, measure
from ncsnx.evaluation.held_out import HeldOutLoss, level_of
from ncsnx.evaluation.likelihood import Likelihood
from ncsnx.evaluation.measuring import choose
from ncsnx.features.real_images import DataSource
from ncsnx.randomness import Purpose, Stream
from ncsnx.runs.folder import Run
from ncsnx.runs.selection import select
from ncsnx.runtime import Runtime
from ncsnx.sampling.probability_flow import FORM, MEANING
from ncsnx.work import SILENT
from tests.training.tiny import CPU, Result, command

RUN = "runs/digits"


def loss(folder: Path, *words: str) -> Result:
    return command("loss", "digits", *words, *CPU, folder=folder)


def rows(folder: Path, *words: str) -> list[dict[str, Any]]:
    result = loss(folder, "--json", *words).done()
    return list(json.loads(result.out)["rows"])


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
    held_out = open_data(model.checkpoint.experiment.data, measured).held_out
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
    assert json.loads(loss(measured, "--range", "8", "--json").out)["protocol"]["passes"] == levels


def test_losses_are_kept_and_drawn(measured: Path) -> None:
    (sweep,) = (measured / RUN / "loss").iterdir()
    before = (measured / RUN / "measurements.jsonl").read_bytes()
    result = loss(measured, "--range", "8")
    assert "1 checkpoint already measured" in result.err
    assert (measured / RUN / "measurements.jsonl").read_bytes() == before
    assert len((sweep / "scores.csv").read_text().splitlines()) == 2
    assert "levels.3" in (sweep / "scores.csv").read_text()
    with Image.open(sweep / "losses.png") as plot:
        assert plot.size[0] > 1_000
    refused = loss(measured, "--passes", "5")
    assert refused.code == 2
    assert "--passes must be between 1 and the 4 levels" in refused.err


def test_a_loss_out_of_range_leaves_one_checkpoint_out(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = iter([1e35])  # finite in float32, and beyond what rows hold
    monkeypatch.setattr(HeldOutLoss, "_by_level", lambda self, losses: [next(first, 1.0)] * len(self.sigmas))
    result = loss(workplace, "--passes", "1")
    assert result.code == 1
    assert "1 checkpoint without a score: step 4: its held-out loss is 1e+35, which is out of range" in result.err
    assert [row["score"] for row in rows(workplace, "--range", "8:100", "--passes", "1")] == [1.0, 1.0]


@pytest.mark.parametrize(("passes", "levels"), [(1, 7), (3, 7), (7, 7), (2, 232)])
def test_passes_are_spread_evenly_over_the_levels(passes: int, levels: int) -> None:
    images = 5 * levels
    seen = torch.stack([level_of(torch.arange(images), number, passes, levels) for number in range(passes)])
    assert torch.bincount(seen.flatten(), minlength=levels).tolist() == [5 * passes] * levels
    for image in seen.T:
        assert len(set(image.tolist())) == passes


def test_each_measurement_says_when_it_began_and_ended(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hours, measured = 100, HeldOutLoss.measured

    def an_hour_later(*given: Any) -> Any:
        nonlocal hours
        hours += 1
        return measured(*given)

    monkeypatch.setattr(HeldOutLoss, "measured", an_hour_later)
    monkeypatch.setattr(measure, "this_process", lambda: {"started": f"{hours} h"})
    rows = json.loads(loss(workplace, "--passes", "1", "--json").out)["rows"]
    times = [(row["made"]["started"], row["made"]["finished"]) for row in rows]
    assert times == [("100 h", "101 h"), ("101 h", "102 h"), ("102 h", "103 h")]


N = 4
BITS = ("likelihood", "digits", "--ckpt", "8", "--n", str(N), "--batch-size", "2", "--tolerance", "0.1", *CPU)


@pytest.fixture(scope="module")
def with_bits(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run whose likelihoods are measured at step 8. Not to be changed."""
    folder = tmp_path_factory.mktemp("with_bits")
    shutil.copytree(trained, folder, dirs_exist_ok=True)
    assert command(*BITS, folder=folder).code == 0
    return folder


def likelihoods(folder: Path, **changes: Any) -> Likelihood:
    """The likelihood of step 8."""
    run = Run(folder / RUN)
    runtime = Runtime.choose(device="cpu", threads=1, precision="fp32")
    subjects, _ = choose(run, select(run, "8"), SILENT, runtime)
    facts = {"spec": run.spec(), "source": DataSource.of_run(run, folder), "tolerance": 0.1, "batch_size": 2}
    return Likelihood(run=run, runtime=runtime, subjects=subjects, **(facts | changes))


def bits_of(sweep: Likelihood) -> Tensor:
    """Values of the images, (n, values)."""
    parts = sweep.parts(sweep.subjects[0], range(sweep.count), SILENT, lambda count=1, kept=False: None)
    return torch.cat([tensors["values"] for tensors in parts]).double()


def test_exact_likelihoods_take_the_exact_trace_of_a_jacobian(with_bits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jacobian = torch.rand(64, 64, generator=torch.Generator().manual_seed(0))

    def trace(*given: Any) -> Tensor:
        probes, vectors = given[-1], given[-1].vectors.flatten(2)
        return probes.weight * torch.einsum("kbi,ij,kbj->b", vectors, jacobian, vectors)[:, None]

    monkeypatch.setattr(likelihood, "bits_per_dimension", trace)
    sweep = likelihoods(with_bits, n=3, estimator="exact")
    assert bits_of(sweep).flatten().tolist() == pytest.approx([float(jacobian.trace())] * 3)
    assert (sweep.probes, sweep.protocol()["estimator"]) == (64, "exact")


def test_what_an_ncsnv2_adds_is_not_said_of_another_network(with_bits: Path) -> None:
    spec = attrs.evolve(Run(with_bits / RUN).spec(), model=UNet())
    assert not any(FORM in line for line in likelihoods(with_bits, spec=spec).notes())


def test_likelihoods_are_the_mean_of_the_bits_of_their_images_with_its_standard_error(with_bits: Path) -> None:
    values = bits_of(likelihoods(with_bits, n=N))
    bits = values[:, 0].tolist()
    shown = json.loads(command(*BITS, "--json", folder=with_bits).out)
    (row,) = shown["rows"]
    assert row["score"] == pytest.approx(statistics.mean(bits), abs=1e-5)
    assert row["error"] == pytest.approx(statistics.stdev(bits) / math.sqrt(N), abs=1e-5)
    assert values[:, 1:4].sum(dim=1).tolist() == pytest.approx(bits, abs=1e-5)
    assert values[:, 3].tolist() == pytest.approx([math.log2(17)] * N, abs=1e-5)
    protocol = shown["protocol"]
    assert (shown["metric"], row["evaluations"] > 10) == ("bits per dimension", True)
    assert (protocol["estimator"], protocol["probes"], protocol["solver"]) == ("hutchinson", 1, "dopri5")
    assert (protocol["n"], protocol["tolerance"], protocol["gray_levels"], protocol["weights"]) == (N, 0.1, 17, "ema")


def test_the_output_of_likelihood_says_what_the_number_means_and_measures_nothing_twice(with_bits: Path) -> None:
    result = command(*BITS, folder=with_bits)
    assert "1 checkpoint already measured" in result.err
    assert f"{MEANING}. {FORM}" in result.err
    assert "uniform gray levels would take 4.09" in result.err
    assert len(result.out.splitlines()) == 2
    with Image.open(next((with_bits / RUN / "likelihood").glob("*/scores.png"))) as plot:
        assert plot.size[0] > 800
    assert "--n must be between 2" in command(*BITS, "--n", "1", folder=with_bits).err
