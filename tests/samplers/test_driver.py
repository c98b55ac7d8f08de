"""The driver between two steps of a sampler, number by number."""

from collections.abc import Sequence
from typing import Self

import attrs
import pytest
import torch
from torch import Tensor

from ncsnx.config import Sampler
from ncsnx.samplers.contract import DenoisingModel, Draw, Steps
from ncsnx.samplers.driver import drive
from ncsnx.samplers.state import Score

G, S = 3.0, -2.0


@attrs.frozen(eq=False)
class Guiding:
    """A measurement that adds a tenth of σ to x, with the likelihood score G, times a factor of each image."""

    factors: Tensor
    transports: bool = True

    def __call__(self, x: Tensor, sigma: float | Tensor, step: int) -> Tensor:
        return x + sigma / 10

    def guided(self, score: Score, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, Tensor]:
        return score(x, sigma), torch.full_like(x, G) * self.factors.view(-1, 1, 1, 1)

    def of(self, rows: slice | Tensor) -> Self:
        return attrs.evolve(self, factors=self.factors[rows])

    def admit(self, config: Sampler, sigmas: Sequence[float]) -> None:
        raise AssertionError("the driver does not ask")


def test_the_likelihood_score_is_told_and_its_transport_made_between_arrivals() -> None:
    told: list[tuple[float, ...]] = []

    def numbers(*tensors: Tensor) -> None:
        assert all(bool((tensor == tensor.flatten()[0]).all()) for tensor in tensors)
        told.append(tuple(float(tensor.flatten()[0]) for tensor in tensors))

    def script(x: Tensor, noise: Draw, model: DenoisingModel) -> Steps:
        numbers(*(yield x, 1.0))  # the beginning: there is no likelihood score yet, so no transport
        numbers(*(yield x + 1, 1.0))  # a step that stays at its σ
        numbers(*model(x + 2, 0.5))  # an evaluation inside the step from 1
        numbers(*(yield x + 3, 0.5))
        return x + 4, 0.25

    x = torch.zeros(2, 1, 1, 1, dtype=torch.float64)
    for adaptive in (False, True):
        told.clear()
        states = list(
            drive(
                script,
                lambda x, sigma: torch.full_like(x, S),
                x,
                noise=lambda k: x,
                constrain=Guiding(torch.ones(2)),
                adaptive=adaptive,
            )
        )
        arrivals = [(0.1, 1.0), (1.1, 1.0), (3 - 0.75 * G + 0.05, 0.5)]
        replies = [(place, place + sigma**2 * (S + G), S + G) for place, sigma in arrivals]
        # inside a step, the denoised image belongs to the sampler's x
        inside = (2 + 0.5**2 * (S + G), S + G)
        assert told == [pytest.approx(step) for step in (replies[0], replies[1], inside, replies[2])]
        places = [state.x.flatten().tolist() for state in states]
        expected = [place for place, _ in arrivals] + [4 + (0.25**2 - 0.5**2) * G]
        if not adaptive:
            expected.insert(2, 2 - 0.75 * G + 0.05)
        assert places == [pytest.approx([place] * 2) for place in expected]
        assert [state.sigma for state in states][-1] == 0.25
        assert [state.evaluations for state in states] == ([1, 2, 4, 4] if adaptive else [1, 2, 3, 4, 4])


def test_an_adaptive_sampler_evaluates_some_images_each_at_its_own_sigma() -> None:
    """The measurement, its transport and the count are those of the images that are evaluated."""
    rows, sigma = torch.tensor([2, 0]), torch.tensor([0.5, 0.25]).double().view(-1, 1, 1, 1)
    evaluated: list[Tensor] = []

    def score(x: Tensor, sigma: float | Tensor) -> Tensor:
        evaluated.append(x.flatten())
        return torch.full_like(x, S)

    def script(x: Tensor, noise: Draw, model: DenoisingModel) -> Steps:
        x, _, _ = yield x, 1.0
        denoised, s = model(x[rows], sigma, rows)
        assert denoised.flatten().tolist() == pytest.approx([2.1 + 0.25 * (S + 2 * G), 0.1 + 0.0625 * S])
        assert s.flatten().tolist() == pytest.approx([S + 2 * G, S])
        return x

    x = torch.arange(3.0).double().view(-1, 1, 1, 1)
    guiding = Guiding(torch.arange(3.0))
    states = list(drive(script, score, x, noise=lambda k: x, constrain=guiding, adaptive=True))
    assert evaluated[1].tolist() == pytest.approx([2.1 - 0.75 * 2 * G + 0.05, 0.1 + 0.025])
    assert [state.evaluations for state in states] == [1, 5 / 3]
