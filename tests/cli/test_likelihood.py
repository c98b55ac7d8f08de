"""`ncsnx likelihood` on a small run."""

import json
import math
import shutil
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from ncsnx.evaluation.checkpoint_sweep import choose
from ncsnx.evaluation.likelihood_sweep import LikelihoodSweep
from ncsnx.evaluation.probability_flow import MEANING
from ncsnx.features.real_images import DataSource
from ncsnx.runs.folder import Run
from ncsnx.runs.selection import select
from ncsnx.runtime import Runtime
from ncsnx.work import SILENT
from tests.training.tiny import CPU, Result, command

RUN = "runs/digits"
N = 4
SMALL = ("--ckpt", "8", "--n", str(N), "--batch-size", "2", "--tolerance", "0.1", *CPU)


def likelihood(folder: Path, *words: str) -> Result:
    return command("likelihood", "digits", *SMALL, *words, folder=folder)


def rows(folder: Path, *words: str) -> list[dict[str, Any]]:
    """The rows that --json prints, without the remarks on how they came about."""
    result = likelihood(folder, "--json", *words)
    assert result.code == 0, result.err
    return [{key: item for key, item in row.items() if key != "made"} for row in json.loads(result.out)]


def values_of_images(folder: Path, n: int, batch_size: int) -> Tensor:
    """Bits of each image in total and in parts, and its evaluations, by the checkpoint of step 8: (n, 5)."""
    run = Run(folder / RUN)
    sweep = LikelihoodSweep(
        run=run,
        experiment=run.experiment(),
        source=DataSource.of_run(run, folder),
        runtime=Runtime.choose(device="cpu", threads=1, precision="fp32"),
        n=n,
        tolerance=0.1,
        batch_size=batch_size,
    )
    (candidate,), _ = choose(run, select(run, "8"), SILENT)
    parts = sweep.parts(candidate, range(n), SILENT, lambda count=1, kept=False: None)
    return torch.cat([part.tensors["values"] for part in parts]).double()


@pytest.fixture(scope="module")
def measured(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run whose likelihoods are measured at step 8. Not to be changed."""
    folder = tmp_path_factory.mktemp("measured")
    shutil.copytree(trained, folder, dirs_exist_ok=True)
    assert likelihood(folder).code == 0
    return folder


@pytest.fixture(scope="module")
def values(measured: Path) -> Tensor:
    """The values of the N images."""
    return values_of_images(measured, N, batch_size=2)


def test_a_row_is_the_mean_of_its_images_with_its_standard_error(measured: Path, values: Tensor) -> None:
    (row,) = rows(measured)
    bits = values[:, 0].tolist()
    assert row["score"] == pytest.approx(statistics.mean(bits), abs=1e-5)
    assert row["error"] == pytest.approx(statistics.stdev(bits) / math.sqrt(N), abs=1e-5)
    assert values[:, 1:4].sum(dim=1).tolist() == pytest.approx(bits, abs=1e-5)
    assert values[:, 3].tolist() == pytest.approx([math.log2(17)] * N, abs=1e-5)


def test_a_row_says_by_which_protocol(measured: Path) -> None:
    (row,) = rows(measured)
    protocol = row["protocol"]
    assert row["metric"] == "bits per dimension"
    assert len(row["weights_sha256"]) == 64
    assert row["evaluations"] > 10
    assert (protocol["estimator"], protocol["probes"], protocol["solver"]) == ("hutchinson", 1, "dopri5")
    assert (protocol["n"], protocol["seed"], protocol["tolerance"]) == (N, 0, 0.1)
    assert (protocol["grey_levels"], protocol["weights"], len(protocol["fingerprint"])) == (17, "ema", 64)


def test_the_output_says_what_the_number_means_and_measures_nothing_twice(measured: Path) -> None:
    result = likelihood(measured)
    assert "1 checkpoint already measured" in result.err
    assert MEANING in result.err
    assert "uniform grey levels would take 4.09" in result.err
    assert len(result.out.splitlines()) == 2
    with Image.open(next((measured / RUN / "likelihood").glob("*/scores.png"))) as plot:
        assert plot.size[0] > 800


def test_an_image_keeps_its_value_in_other_batches_and_among_more_images(measured: Path, values: Tensor) -> None:
    more = values_of_images(measured, N + 1, batch_size=3)
    # at the worst each step is wrong by the tolerance, in nats: in truth a few are, in either direction
    assert values[:, 0].tolist() == pytest.approx(more[:N, 0].tolist(), abs=0.1 / math.log(2))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--n", "1"), "--n must be between 2"),
        (("--estimator", "best"), "--estimator: 'best' is not one of"),
    ],
)
def test_what_cannot_be_is_one_clear_line(measured: Path, words: tuple[str, ...], expected: str) -> None:
    result = likelihood(measured, *words)
    assert result.code == 2
    assert expected in result.err
