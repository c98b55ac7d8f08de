"""Conformance tests of every registered sampler, built in or from a package."""

import math

import pytest
import torch
from torch import Tensor

from ncsnx.config import Exponential, Sampler
from ncsnx.config.sampler import GridSampler
from ncsnx.inverse import Averaging
from ncsnx.inverse.rules.exact import ExactRule
from ncsnx.samplers.building import build_sampler, evaluations, first_sigma, state_count
from ncsnx.samplers.contract import definition_of
from ncsnx.samplers.state import State
from ncsnx.sampling.generation import SeededNoise, initial_normal
from tests.samplers.exam import continues_from_given_x, fault, measured_pixels
from tests.samplers.registry import FEW, SAMPLERS, all_settings, in_steps, usual_settings
from tests.samplers.toy import DEVIATION, MEAN, SHAPE, SIGMAS, RecordedNoise, gaussian_score, levels_of_plan, scaled

USUAL = pytest.mark.parametrize("config", list(usual_settings(9)), ids=repr)
ALL = pytest.mark.parametrize("config", list(all_settings(5)), ids=repr)
NOTHING = RecordedNoise(torch.zeros(0))


def run(config: Sampler, indices: Tensor, *, seed: int = 5, seen: list[int] | None = None) -> list[State]:
    """States of the sampler for Gaussian data; `seen` gets the number of images of each evaluation."""

    def score(x: Tensor, sigma: float) -> Tensor:
        if seen is not None:
            seen.append(len(x))
        return gaussian_score(x, sigma)

    x = initial_normal(seed, indices, SHAPE, mean=0.5, sigma=first_sigma(config, SIGMAS))
    return list(
        build_sampler(config)(scaled(score), x, SIGMAS, noise=SeededNoise(seed=seed, indices=indices, shape=SHAPE))
    )


@ALL
def test_states_and_evaluations_are_as_announced(config: Sampler) -> None:
    seen: list[int] = []
    states = run(config, torch.arange(3), seen=seen)
    said = evaluations(config, len(SIGMAS))
    assert len(states) == state_count(config, len(SIGMAS))
    assert [state.step for state in states] == list(range(len(states)))
    assert states[-1].evaluations == sum(seen) / 3
    if definition_of(type(config)).adaptive:
        assert said is None
    else:
        assert said is not None
        assert set(seen) == {3}, "the whole batch per evaluation"
        assert [state.evaluations for state in states] == [*range(1, said + 1), said]
    for state in states[:-1]:
        torch.testing.assert_close(state.denoised, state.x + state.sigma**2 * gaussian_score(state.x, state.sigma))
    assert states[-1].denoised is states[-1].x
    assert states[-1].sigma in (0.0, SIGMAS[-1]), "denoised, or declared to have the noise of the last level"
    assert bool(torch.isfinite(states[-1].x).all())


@ALL
def test_what_an_image_becomes_does_not_depend_on_the_others(config: Sampler) -> None:
    together = run(config, torch.arange(6))[-1].x
    apart = torch.cat([run(config, torch.tensor(part))[-1].x for part in ([0, 1], [2], [3, 4, 5])])
    assert torch.equal(together, apart)
    assert not torch.equal(together, run(config, torch.arange(6), seed=6)[-1].x)


ORDERED = [cls for cls in SAMPLERS.values() if definition_of(cls).order is not None]


@pytest.mark.parametrize("cls", ORDERED, ids=[cls.__name__ for cls in ORDERED])
def test_solvers_of_the_flow_converge_to_its_solution_with_the_order_that_they_declare(cls: type[GridSampler]) -> None:
    order = definition_of(cls).order
    assert order is not None
    x = torch.linspace(-2, 3, 12).double().view(2, 1, 2, 3)
    errors = []
    for steps in (40, 80):
        config = cls(steps=steps, grid=Exponential())  # ends at 0.01, so that the last step to 0 is small
        states = build_sampler(config)(scaled(gaussian_score), x, (1.0, 0.1, 0.01), noise=NOTHING)
        before_last = [state for state in states if state.sigma > 0][-1]
        growth = math.sqrt((DEVIATION**2 + before_last.sigma**2) / (DEVIATION**2 + 1))
        errors.append(float((before_last.x - MEAN - (x - MEAN) * growth).abs().max()))
    # halving the step divides the error by 2^order; 10 % for higher-order terms
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.1)


def levels_for(config: Sampler) -> tuple[float, ...]:
    return SIGMAS if isinstance(config, GridSampler) else levels_of_plan(FEW)


@USUAL
def test_a_noisy_measurement_gives_the_posterior_of_gaussian_data(config: Sampler) -> None:
    definition = definition_of(type(config))
    assert fault(definition, config, levels_for(config), measured_pixels) is None


@USUAL
def test_an_exact_measurement_is_kept_and_the_rest_follows_from_it(config: Sampler) -> None:
    """Measures means of blocks; the directions that aren't measured are distributed as in the data."""
    operator, levels = Averaging((1, 4, 4), 2), levels_for(config)
    few = definition_of(type(config)).adaptive
    config, count = in_steps(config, 6 if few else 40), 8 if few else 200
    values = operator.coefficients(torch.full((1, 1, 4, 4), 0.9)) * torch.tensor([1.0, 0.5, 1.5, 1.0])
    indices = torch.arange(count)
    condition = ExactRule(operator, values.expand(count, -1), SeededNoise(1, indices, (1, 4, 4)), lowest=levels[-1])
    x = initial_normal(2, indices, (1, 4, 4), mean=0.5, sigma=levels[0])
    noise = SeededNoise(3, indices, (1, 4, 4))
    *_, last = build_sampler(config)(scaled(gaussian_score), x, levels, noise=noise, rule=condition)
    torch.testing.assert_close(operator.coefficients(last.x), condition.values, atol=1e-5, rtol=0)
    rest = last.x - operator.images(condition.values)
    assert float(rest.mean(dim=0).abs().max()) < 5 * DEVIATION / math.sqrt(count)
    # standard deviation in 12 of 16 directions, up to the error of 40 steps and of first order (half of the variance)
    assert 0.6 < float(rest.std()) / (DEVIATION * math.sqrt(12 / 16)) < 1.3


@ALL
def test_a_sampler_continues_from_the_x_that_it_gets_back(config: Sampler) -> None:
    assert continues_from_given_x(definition_of(type(config)), config)
