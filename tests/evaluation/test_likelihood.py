"""Bits per dimension: transforms, gray levels, closed forms; and sweeps of likelihoods."""

import math
import shutil
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor

from ncsnx.config import NCSN, Digits
from ncsnx.config.codec import identity
from ncsnx.config.data_sets import Data, Transform
from ncsnx.data import Preprocessing
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.evaluation.held_out import HeldOutLoss
from ncsnx.evaluation.likelihood import Likelihood
from ncsnx.evaluation.measuring import choose
from ncsnx.features.real_images import DataSource
from ncsnx.model_spec import ModelSpec
from ncsnx.runs.folder import Run
from ncsnx.runs.ledger import Subject
from ncsnx.runs.manifest import UnsoundError
from ncsnx.runs.selection import select
from ncsnx.runtime import Runtime
from ncsnx.samplers.state import Score
from ncsnx.sampling.probability_flow import ProbabilityFlow, Probes, bits_per_dimension
from ncsnx.space import Space
from ncsnx.work import SILENT
from tests.config.examples import minimal
from tests.samplers.toy import scaled
from tests.spaces import space_of

MEAN, DEVIATION = 0.4, 0.25


@attrs.frozen(kw_only=True)
class OnePixel(Data):
    """Images of a single value."""

    @property
    def image_size(self) -> int:
        return 1

    @property
    def channels(self) -> int:
        return 1


def gaussian(mean: float, deviation: float) -> Score:
    """Score of a single value with this Gaussian distribution, at noise level σ."""
    return lambda x, sigma: (mean - x) / (deviation**2 + sigma**2)


def bits(
    pixels: Tensor, levels: int, score: Score, ends: tuple[float, float], transform: Transform = "none"
) -> tuple[Tensor, Tensor]:
    """Bits per dimension of single pixels (B,), and the images in the network's range."""
    data = OnePixel(transform=transform)
    preprocessing = Preprocessing(data, space_of(data), value_range=(0, levels - 1), seed=5)
    positions, images = torch.arange(len(pixels)), pixels.view(-1, 1, 1, 1)
    probes = Probes(torch.ones(1, len(pixels), 1, 1, 1, dtype=torch.float64), weight=1.0)
    flow = ProbabilityFlow(scaled(score), *ends, tolerance=1e-5)
    found = bits_per_dimension(flow, images, positions, preprocessing, probes)
    assert found[:, 0].tolist() == pytest.approx(found[:, 1:4].sum(dim=1).tolist(), abs=1e-12)
    return found[:, 0], preprocessing.space.encode(preprocessing.continuous(images, positions)).flatten()


@pytest.mark.parametrize("levels", [17, 256])
@pytest.mark.parametrize("transform", ["none", "rescaled", "logit"])
def test_bits_are_those_of_the_closed_form(transform: Transform, levels: int) -> None:
    """Gaussian data in the network's range, with the derivative of each transform in closed form."""
    pixels = torch.linspace(1, levels - 2, 60).round().to(torch.uint8)
    low, high, middle = 0.01, 20.0, 0.5 if transform == "none" else 0.0
    found, x = bits(pixels, levels, gaussian(MEAN, DEVIATION), (low, high), transform)
    growth = math.sqrt((DEVIATION**2 + high**2) / (DEVIATION**2 + low**2))
    at_the_end = MEAN + growth * (x - MEAN)
    log_density = -0.5 * ((at_the_end - middle) / high) ** 2 - math.log(high * math.sqrt(2 * math.pi) / growth)
    if transform == "rescaled":
        log_density += math.log(2)
    if transform == "logit":  # dx/du = (1 − 2λ)/(v(1 − v)), and x = ln v − ln(1 − v)
        log_density += math.log1p(-2e-6) - torch.nn.functional.logsigmoid(x) - torch.nn.functional.logsigmoid(-x)
    exact = math.log2(levels) - log_density / math.log(2)
    assert found.tolist() == pytest.approx(exact.tolist(), rel=1e-5, abs=5e-4)


@pytest.mark.parametrize("levels", [17, 256])
def test_the_probabilities_of_all_gray_levels_add_up_to_one(levels: int) -> None:
    """2^−bits, averaged over the dequantization, is the probability of a gray level."""
    draws = 2_560 // levels
    pixels = torch.arange(levels).repeat_interleave(draws).to(torch.uint8)
    found, _ = bits(pixels, levels, gaussian(0.5, 0.12), (0.01, 20.0))
    masses = torch.exp2(-found).view(levels, draws)
    error = float((masses.var(dim=1) / draws).sum().sqrt())
    assert float(masses.mean(dim=1).sum()) == pytest.approx(1.0, abs=5 * error + 1e-3)
    assert error < 0.01


def sweep(folder: Path, request: dict[str, Any] | None = None, **changes: Any) -> Likelihood:
    experiment = attrs.evolve(minimal(), **{"data": Digits()} | changes)
    return Likelihood(
        run=Run(folder),
        spec=ModelSpec.of(experiment, Space.of(experiment.data)),
        subjects=(Subject(step=8, weights_sha256="a", weights="ema", precision="fp32", identity=identity(experiment)),),
        source=DataSource(data=experiment.data, folder=folder),
        runtime=Runtime.choose(device="cpu"),
        **(request or {}),
    )


@pytest.mark.parametrize(
    ("asked", "changes", "told"),
    [
        ({}, {"model": NCSN(width=8)}, "NCSN accepts its trained levels only"),
        ({"n": 300}, {}, "^n 300: expected 2 to the number of held-out images, which is 299"),
        ({"estimator": "exact", "vectors": 3}, {}, "exact takes no probes; leave it out$"),
        ({"tolerance": 1e-9}, {}, "tolerance must be between"),
        ({"tolerance": math.nan}, {}, "tolerance must be between"),
    ],
)
def test_what_has_no_bits_is_refused(asked: dict[str, Any], changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(NcsnxError, match=told):
        sweep(tmp_path, asked, **changes)


def test_every_choice_that_changes_a_number_is_in_the_protocol(tmp_path: Path) -> None:
    requests = [{}, {"n": 299}, {"seed": 1}, {"vectors": 2}, {"estimator": "exact"}, {"tolerance": 1e-3}]
    folders = {sweep(tmp_path, request).place for request in requests}
    assert len(folders) == len(requests)
    assert sweep(tmp_path, {"batch_size": 7}).place in folders


def test_a_checkpoint_that_cannot_be_loaded_is_not_called_removed_unless_it_is(workplace: Path) -> None:
    run = Run(workplace / "runs" / "digits")
    source, runtime = DataSource.of_run(run, workplace), Runtime.choose(threads=1)
    subjects, _ = choose(run, select(run, "8"), SILENT, runtime)
    job = HeldOutLoss(run=run, spec=run.spec(), subjects=subjects, source=source, runtime=runtime)
    assert job.load(subjects[0])[0].checkpoint.step == 8
    elsewhere = attrs.evolve(job, runtime=attrs.evolve(runtime, precision="tf32"))
    with pytest.raises(UsageError, match="runs on CUDA only"):
        elsewhere.load(subjects[0])
    with pytest.raises(UnsoundError, match="replaced in the meantime"):
        job.load(attrs.evolve(subjects[0], weights_sha256="0" * 64))
    shutil.rmtree(run.checkpoints / "step-00000008")
    with pytest.raises(UnsoundError, match="removed in the meantime"):
        job.load(subjects[0])
