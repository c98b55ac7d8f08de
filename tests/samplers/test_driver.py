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

G, S = 3.0, -2.0


@attrs.frozen
class Guiding:
    """A measurement that adds a tenth of σ to x, with the likelihood score G."""

    def __call__(self, x: Tensor, sigma: float, step: int) -> Tensor:
        return x + sigma / 10

    def likelihood_score(self, x: Tensor, sigma: float) -> Tensor:
        return torch.full_like(x, G)

    def of(self, rows: slice) -> Self:
        assert (rows.start, rows.stop) in ((0, 1), (1, 2))
        return self

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
    for alone in (False, True):
        told.clear()
        states = list(
            drive(
                script, lambda x, sigma: torch.full_like(x, S), x, noise=lambda k: x, constrain=Guiding(), alone=alone
            )
        )
        arrivals = [(0.1, 1.0), (1.1, 1.0), (3 - 0.75 * G + 0.05, 0.5)]
        replies = [(place, place + sigma**2 * (S + G), S + G) for place, sigma in arrivals]
        # inside a step, the denoised image belongs to the sampler's x
        inside = (2 + 0.5**2 * (S + G), S + G)
        steps = [replies[0], replies[1], inside, replies[2]]
        if alone:  # one image after the other between two arrivals
            steps = [replies[0], replies[0], replies[1], inside, replies[1], inside, replies[2], replies[2]]
        assert told == [pytest.approx(step) for step in steps]
        places = [state.x.flatten().tolist() for state in states]
        expected = [place for place, _ in arrivals] + [4 + (0.25**2 - 0.5**2) * G]
        if not alone:
            expected.insert(2, 2 - 0.75 * G + 0.05)
        assert places == [pytest.approx([place] * 2) for place in expected]
        assert [state.sigma for state in states][-1] == 0.25
        assert [state.evaluations for state in states] == ([1, 2, 4, 4] if alone else [1, 2, 3, 4, 4])
