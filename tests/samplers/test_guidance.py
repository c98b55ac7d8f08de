"""Classes and guidance, with exact denoisers of each class and with a network."""

import math

import attrs
import pytest
import torch
from torch import Tensor

from ncsnx.config import Digits, Exponential, Heun, ProbabilityFlowODE, Sampler, UNet
from ncsnx.model_spec import NO_CLASS
from ncsnx.networks.contract import Cond
from ncsnx.samplers.building import build_sampler, evaluations
from ncsnx.samplers.contract import definition_of
from ncsnx.samplers.state import tweedie
from tests.config.examples import minimal
from tests.samplers.registry import PLAN, SAMPLERS, default_of, in_steps
from tests.samplers.toy import Mixture, levels_of_plan, scaled
from tests.spaces import untrained

MEANS = {0: 0.3, 1: 0.6, NO_CLASS: 0.4}
DEVIATION, COUNT, SHAPE = 0.1, 8, (1, 32, 32)


def exact(x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
    """σ s of N(mean of the class, DEVIATION²)."""
    mean = torch.tensor([MEANS[label] for label in cond["classes"].tolist()]).view(-1, 1, 1, 1)
    each = sigma.view(-1, 1, 1, 1)
    return each * (mean - x) / (DEVIATION**2 + each**2)


@pytest.mark.parametrize("variant", SAMPLERS.values(), ids=SAMPLERS.keys())
@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_every_sampler_draws_the_class_asked_for(variant: type[Sampler], weight: float) -> None:
    """The guided denoiser of equal variances is that of the mean m_u + w (m_c − m_u)."""
    adaptive = definition_of(variant).adaptive
    config = attrs.evolve(default_of(variant) if adaptive else in_steps(default_of(variant), 400), guidance=weight)
    generator, classes = torch.Generator().manual_seed(3), torch.arange(COUNT) % 2

    def unit_normal(k: int) -> Tensor:
        return torch.randn(COUNT, *SHAPE, generator=generator)

    means = [MEANS[NO_CLASS] + weight * (MEANS[label] - MEANS[NO_CLASS]) for label in (0, 1)]
    # from the data with noise of σ_1, so that any error is the sampler's
    start = torch.tensor(means)[classes].view(-1, 1, 1, 1) + math.hypot(PLAN.sigma_max, DEVIATION) * unit_normal(0)
    levels = levels_of_plan(PLAN)
    *_, last = build_sampler(config)(exact, start, levels, noise=unit_normal, cond={"classes": classes})
    for label, expected in enumerate(means):
        values = last.x[classes == label].double()
        # five standard errors, and ln γ, which is at most 0.025 in 400 steps
        margin = (5 / math.sqrt(values.numel()) + 0.025) * DEVIATION
        assert float(values.mean()) == pytest.approx(expected, abs=margin)
        assert float(values.std()) == pytest.approx(DEVIATION, rel=5 / math.sqrt(2 * values.numel()) + 0.025)


@pytest.mark.parametrize("variant", SAMPLERS.values(), ids=SAMPLERS.keys())
def test_every_sampler_draws_the_modes_of_each_class_with_their_weights(variant: type[Sampler]) -> None:
    mixtures = (Mixture((0.3, 0.7), (0.2, 0.8), (0.05, 0.1)), Mixture((0.6, 0.4), (0.2, 0.8), (0.1, 0.05)))
    adaptive = definition_of(variant).adaptive
    config = default_of(variant) if adaptive else in_steps(default_of(variant), 400)
    generator, classes = torch.Generator().manual_seed(5), torch.arange(COUNT) % 2
    first = (classes == 0).view(-1, 1, 1, 1)

    def unit_normal(k: int) -> Tensor:
        return torch.randn(COUNT, *SHAPE, generator=generator)

    def of_class(x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        scores = [scaled(mixture.score)(x, sigma, cond) for mixture in mixtures]
        return torch.where((cond["classes"] == 0).view(-1, 1, 1, 1), *scores)

    starts = [data.mean + math.sqrt(PLAN.sigma_max**2 + data.variance) * unit_normal(0) for data in mixtures]
    *_, last = build_sampler(config)(
        of_class, torch.where(first, *starts), levels_of_plan(PLAN), noise=unit_normal, cond={"classes": classes}
    )
    for label, data in enumerate(mixtures):
        values = last.x[classes == label]
        # five standard errors, and ln γ; the share of N(0.2, 0.1²) above 0.5 is 1e-3
        margin = 5 * math.sqrt(0.25 / values.numel()) + 0.025
        assert float((values < 0.5).double().mean()) == pytest.approx(data.weights[0], abs=margin)


@pytest.mark.parametrize("weight", [0.0, 1.5, 4.0])
def test_guidance_of_a_network_is_the_combination_of_its_denoised_images(weight: float) -> None:
    model = UNet(width=8, multipliers=(1, 2), blocks=1, attention=(4,), classes=10)
    network = untrained(attrs.evolve(minimal(), data=Digits(sigma_data=0.8), model=model)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    x, classes = torch.rand((3, 1, 8, 8), generator=generator), torch.tensor([7, 2, 2])

    def denoised(given: Tensor) -> Tensor:
        sigma = torch.full((3,), 0.7)
        with torch.no_grad():
            return tweedie(x, sigma, network.scaled_score(x, sigma, {"classes": given}) / 0.7)

    with_class, without = denoised(classes), denoised(torch.full((3,), NO_CLASS))
    assert float((with_class - without).abs().max()) > 0.1
    states = build_sampler(Heun(steps=1, guidance=weight))(
        network.scaled_score, x, (0.7, 0.1), noise=lambda k: x, cond={"classes": classes}
    )
    assert torch.allclose(next(states).denoised, without + weight * (with_class - without), atol=1e-5)


def test_guidance_takes_two_evaluations_where_it_is_and_one_elsewhere() -> None:
    x, levels = torch.zeros(2, 1, 2, 2), levels_of_plan(PLAN)
    given = {"classes": torch.tensor([0, 1])}

    def taken(config: Sampler) -> float:
        *_, last = build_sampler(config)(exact, x, levels, noise=torch.zeros_like, cond=given)  # type: ignore[arg-type]
        return last.evaluations

    assert taken(Heun(steps=9)) == evaluations(Heun(steps=9), 5) == 17
    assert taken(Heun(steps=9, guidance=2.0)) == evaluations(Heun(steps=9, guidance=2.0), 5) == 34
    within = Heun(steps=9, guidance=2.0, guidance_interval=(0.1, 1.0))
    assert 17 < taken(within) == evaluations(within, len(levels), levels) < 34
    assert taken(attrs.evolve(within, guidance_interval=(100.0, 200.0))) == 17


def test_an_end_of_the_interval_is_not_rounded() -> None:
    """σ = 0.3 is above 0.3 in float32."""
    x, given = torch.zeros(1, 1, 2, 2), {"classes": torch.tensor([1])}

    def first(config: Sampler) -> Tensor:
        sampler = build_sampler(attrs.evolve(config, grid=Exponential(sigma_max=0.3, sigma_min=0.1)))
        return next(sampler(exact, x, (0.3, 0.1), noise=torch.zeros_like, cond=given)).denoised  # type: ignore[arg-type]

    guided = Heun(steps=2, guidance=2.0)
    assert torch.equal(first(attrs.evolve(guided, guidance_interval=(0.1, 0.3))), first(guided))


def test_guidance_in_an_interval_is_none_outside_for_images_with_steps_of_their_own_too() -> None:
    x, levels = torch.full((2, 1, 2, 2), 0.5), levels_of_plan(PLAN)

    evaluated = dict[Sampler, float]()

    def result(config: Sampler) -> Tensor:
        cond = {"classes": torch.tensor([0, 1])}
        *_, last = build_sampler(config)(exact, x, levels, noise=torch.zeros_like, cond=cond)  # type: ignore[arg-type]
        evaluated[config] = last.evaluations
        return last.x

    plain = ProbabilityFlowODE(steps=3)
    outside = attrs.evolve(plain, guidance=3.0, guidance_interval=(100.0, 200.0))
    everywhere = attrs.evolve(plain, guidance=3.0, guidance_interval=(0.0, 100.0))
    assert torch.equal(result(outside), result(plain))
    assert torch.equal(result(everywhere), result(attrs.evolve(plain, guidance=3.0)))
    assert not torch.allclose(result(everywhere), result(plain), atol=0.05)
    assert evaluated[outside] == evaluated[plain] < evaluated[everywhere]
