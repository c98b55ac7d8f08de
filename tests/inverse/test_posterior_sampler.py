"""Every way to draw images that agree with a picture draws one law, or refuses."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import ncsnx
from ncsnx.config import DPMSolverPPSDE, Heun, ProbabilityFlowODE, Sampler
from ncsnx.errors import NcsnxError, Stopped
from ncsnx.inverse import Masking, Task
from ncsnx.inverse.operators.pixels import Identity
from ncsnx.sampling.model import Model
from ncsnx.sampling.sample_folder import samples_in

SHAPE = (1, 4, 4)
MEAN, DEVIATION = 0.66, 0.0894
"""Of N(0.5, 0.2²) seen as 0.7 with noise of 0.1: (0.5·0.1² + 0.7·0.2²)/(0.2² + 0.1²), 0.2·0.1/√(0.2² + 0.1²)."""


@pytest.fixture
def model() -> Model:
    """Of independent pixels, N(0.5, 0.2²)."""

    def denoised(x: Tensor, sigma: Tensor) -> Tensor:
        level = sigma.view(-1, 1, 1, 1)
        return (0.5 * level**2 + x * 0.2**2) / (0.2**2 + level**2)

    return Model.of(denoised, shape=SHAPE, sigma_max=10.0, sigma_min=0.002)


def seen(operator: Masking | Identity, rule: str = "auto") -> Task:
    return Task.of_measurement(operator, torch.full((1, *SHAPE), 0.7), noise=0.1, rule=rule)


def require_law(images: Tensor, mean: float, deviation: float) -> None:
    """Of 300·16 values the standard errors are 0.0013 and 0.0009; the samplers' own errors are below 5 %."""
    assert float(images.mean()) == pytest.approx(MEAN, abs=mean)
    assert float(images.std()) == pytest.approx(DEVIATION, abs=deviation)


@pytest.mark.parametrize("rule", ["reverse", "exact", "cg"])
def test_draw_and_restore_draw_the_posterior_of_a_noisy_picture(model: Model, rule: str, tmp_path: Path) -> None:
    task = seen(Identity(SHAPE), rule)
    require_law(ncsnx.draw(model, n=300, task=task), 0.012, 0.012)
    ncsnx.restore(model, task=task, n=300, out=tmp_path / "out", progress=False)
    require_law(samples_in(tmp_path / "out").read("samples"), 0.012, 0.012)


@pytest.mark.parametrize("sampler", [Heun(), ProbabilityFlowODE(), DPMSolverPPSDE(steps=20, eta=0.5)])
def test_a_sampler_that_forgets_the_picture_is_refused_by_draw_too(model: Model, sampler: Sampler) -> None:
    with pytest.raises(NcsnxError, match="doesn't follow the reverse diffusion of a noisy picture"):
        ncsnx.draw(model, task=seen(Identity(SHAPE)), sampler=sampler)


@pytest.mark.parametrize("sampler", [ProbabilityFlowODE(steps=2), Heun(steps=5)])
def test_few_steps_under_noise_are_refused(model: Model, sampler: Sampler) -> None:
    with pytest.raises(NcsnxError, match="expected at least 10 steps for a noisy measurement"):
        ncsnx.draw(model, task=seen(Masking(torch.ones(SHAPE, dtype=torch.bool))), sampler=sampler)
    images = ncsnx.draw(model, n=300, task=seen(Masking(torch.ones(SHAPE, dtype=torch.bool))), sampler=Heun(steps=20))
    assert float(images.mean()) == pytest.approx(MEAN, abs=0.03), "twenty steps reach it"


def test_a_stop_of_the_program_ends_a_restoration(model: Model, tmp_path: Path) -> None:
    work = ncsnx.Work()
    work.stop.request()
    with pytest.raises(Stopped):
        ncsnx.restore(model, task=seen(Identity(SHAPE)), out=tmp_path / "out", work=work)
