"""Gradients of scores and denoisers: those of a function of x, however the network runs."""

from pathlib import Path

import attrs
import pytest
import torch
from torch import Tensor

import ncsnx
from ncsnx.config import NCSN, Arrays, Digits, Heun, TrainedLevels
from ncsnx.errors import NcsnxError
from ncsnx.networks import prepare
from ncsnx.networks.execution import Execution
from ncsnx.sampling.model import Model
from tests.golden_networks import small_experiment
from tests.spaces import space_of, untrained

EXECUTIONS = {
    "plain": Execution(),
    "fused": Execution(memory_format="channels_last", fused=True),
    "recomputed": Execution(fused=True, checkpointing=True),
}


@pytest.fixture
def model(trained: Path) -> Model:
    return ncsnx.load(trained / "runs/digits")


def slope(model: Model, x: Tensor, weights: Tensor, sigma: float) -> Tensor:
    at = x.clone().requires_grad_()
    (found,) = torch.autograd.grad((weights * model.score(at, sigma)).sum(), at)
    return found


def test_a_score_has_a_gradient_if_x_requires_one_and_only_then(model: Model) -> None:
    x = torch.rand(2, 1, 8, 8)
    assert not model.score(x, 0.3).requires_grad
    with torch.no_grad():
        assert not model.score(x.clone().requires_grad_(), 0.3).requires_grad
    assert model.score(x.clone().requires_grad_(), 0.3).requires_grad
    assert model.denoise(x.clone().requires_grad_(), torch.full((2, 1, 1, 1), 0.3)).requires_grad
    assert all(not parameter.requires_grad for parameter in model.network.parameters())


IMAGES = torch.rand(2, 1, 8, 8)


@pytest.mark.parametrize(
    ("x", "sigma", "told"),
    [
        (IMAGES[..., 1:, :], 0.3, "needs images whose height and width"),
        (IMAGES, 0.0, "σ must be above 0"),
        (IMAGES, -1.0, "σ must be above 0"),
        (IMAGES, torch.tensor([0.3, 0.0]).view(-1, 1, 1, 1), "σ must be above 0"),
        (IMAGES.double(), 0.3, r"images must be torch\.float32, as the network's weights are, not torch\.f"),
    ],
)
def test_a_score_that_no_network_gives_is_refused(model: Model, x: Tensor, sigma: float | Tensor, told: str) -> None:
    with pytest.raises(NcsnxError, match=told):
        model.denoise(x, sigma)


@pytest.mark.parametrize("execution", EXECUTIONS.values(), ids=EXECUTIONS.keys())
def test_the_gradient_is_the_difference_quotient(model: Model, execution: Execution) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weights, direction = torch.randn(3, 2, 1, 8, 8, generator=generator)
    prepare(model.network, execution)
    expected_score = model.score(x, 0.3)
    found = (slope(model, x, weights, 0.3) * direction).sum()
    wide = attrs.evolve(model, network=model.network.double())
    ends = [(weights * wide.score((x + step * direction).double(), 0.3)).sum() for step in (1e-4, -1e-4)]
    torch.testing.assert_close(found.double(), (ends[0] - ends[1]) / 2e-4, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(expected_score.double(), wide.score(x.double(), 0.3), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's own, while it compiles
def test_the_compiled_gradient_is_the_eager_one(model: Model) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weights = torch.randn(2, 2, 1, 8, 8, generator=generator)
    expected = slope(model, x, weights, 0.3)
    for memory_format in ("contiguous", "channels_last"):
        prepare(model.network, Execution(memory_format=memory_format, fused=True, compile=True))
        assert not model.score(x, 0.3).requires_grad
        torch.testing.assert_close(slope(model, x, weights, 0.3), expected, rtol=1e-3, atol=1e-4)


def test_a_denoiser_is_the_mean_of_clean_images_in_0_to_1(model: Model) -> None:
    denoiser, y = model.as_denoiser(), torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(denoiser(y, 0.2), model.denoise(y, 0.2))
    each = denoiser(y, torch.tensor([0.2, 0.4]))
    torch.testing.assert_close(each, torch.cat([denoiser(y[:1], 0.2), denoiser(y[1:], 0.4)]))
    rescaled = attrs.evolve(model, space=space_of(Digits(transform="rescaled")))
    expected = (rescaled.denoise(2 * y - 1, 0.4) + 1) / 2
    torch.testing.assert_close(rescaled.as_denoiser()(y, 0.2), expected)
    unbounded = attrs.evolve(model, space=space_of(Arrays(path="x", image_size=8, range="unbounded", scale=50.0)))
    torch.testing.assert_close(unbounded.as_denoiser()(50 * y, 10.0), 50 * model.denoise(y, 0.2))
    logit = attrs.evolve(model, space=space_of(Digits(transform="logit")))
    with pytest.raises(NcsnxError, match="a model of logits"):
        logit.as_denoiser()


def test_a_network_of_levels_is_refused_another_sigma(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = attrs.evolve(small_experiment(NCSN(width=4)), sampler=Heun(steps=4, grid=TrainedLevels()))
    network, evaluated = untrained(experiment).eval().requires_grad_(False), list[int]()
    monkeypatch.setattr(network, "forward", lambda x, sigma, cond: evaluated.append(len(x)) or x)
    conditional = attrs.evolve(model, network=network, sampler=experiment.sampler, space=space_of(experiment.data))
    with pytest.raises(NcsnxError, match=r"NCSNNetwork takes only the .* levels that it was trained at"):
        ncsnx.draw(conditional, n=1, sampler=Heun(steps=4))
    assert not evaluated
    ncsnx.draw(conditional, n=1)
    assert evaluated
    with pytest.raises(NcsnxError, match=r"σ = 0\.3 is not one of them"):
        conditional.score(torch.rand(1, *conditional.shape), 0.3)
