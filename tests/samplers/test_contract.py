"""The contract of samplers: errors at import and before a measurement, and how the driver runs them."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Self

import attrs
import pytest
import torch
from torch import Tensor

from ncsnx.config import EulerAncestral, GridSampler, Sampler
from ncsnx.errors import NcsnxError
from ncsnx.samplers import DenoisingModel, Draw, Steps, append_zero, contract, sampler
from ncsnx.samplers.building import build_sampler
from ncsnx.samplers.driver import drive
from ncsnx.samplers.state import Score, State
from tests.samplers.exam import measured_pixels
from tests.samplers.toy import SHAPE, SIGMAS, gaussian_score, scaled

KNOWN = torch.ones(SHAPE, dtype=torch.bool)


def of_a_package(function: Callable[..., Steps], **beside: Any) -> Sampler:
    """A configuration of a new class whose sampler is the function."""

    @attrs.frozen(kw_only=True)
    class Packaged(GridSampler):
        eta: float = 1.0

    sampler(Packaged, **beside)(function)
    return Packaged()


def states_of(config: Sampler, noise_deviation: float | None = None) -> list[State]:
    """States for two images; with `noise_deviation`, every pixel is measured."""
    x, generator = torch.zeros(2, *SHAPE), torch.Generator().manual_seed(0)

    def noise(k: int) -> Tensor:
        return torch.randn(x.shape, generator=generator)

    values = torch.zeros(2, 16)
    rule = None if noise_deviation is None else measured_pixels(KNOWN, values, noise_deviation, noise)
    return list(build_sampler(config)(scaled(gaussian_score), x, SIGMAS, noise=noise, rule=rule))


def ancestral(x: Tensor, sigmas: Sequence[float], noise: Draw) -> Steps:
    for sigma, sigma_next in append_zero(sigmas):
        x, denoised, _ = yield x, sigma
        x = denoised + (sigma_next / sigma) ** 2 * (x - denoised)
        if sigma_next > 0:
            x = x + sigma_next * (1 - (sigma_next / sigma) ** 2) ** 0.5 * noise()
    return x


def in_one_step(x: Tensor, sigmas: Sequence[float], model: DenoisingModel) -> Steps:
    """A sampler that yields only once, at the beginning."""
    x, denoised, _ = yield x, sigmas[0]
    for sigma, sigma_next in append_zero(sigmas):
        x = denoised + sigma_next / sigma * (x - denoised)
        if sigma_next > 0:
            denoised, _ = model(x, sigma_next)
    return x


def test_parameters_are_checked_when_the_sampler_is_registered() -> None:
    def unknown(x: Tensor, *, epsilon: float) -> Steps:
        yield x, epsilon
        return x

    def unlike(x: Tensor, levels: Sequence[float]) -> Steps:
        yield x, levels[0]
        return x

    def plain(x: Tensor) -> Tensor:
        return x

    with pytest.raises(TypeError, match=r"unknown: expected parameters among steps, grid, eta, .*, found epsilon"):
        of_a_package(unknown)
    with pytest.raises(TypeError, match="unlike: expected parameters among x, sigmas, noise, model, found levels"):
        of_a_package(unlike)
    with pytest.raises(TypeError, match="plain: expected a generator function, with `x, denoised, score = yield"):
        of_a_package(plain)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"expected adaptive to be among .*, steps, grid, eta, .*, found tolerance"):
        of_a_package(ancestral, adaptive="tolerance")
    config = of_a_package(ancestral)
    with pytest.raises(ValueError, match="Packaged already has ancestral"):
        sampler(type(config))(in_one_step)


@pytest.mark.parametrize("name", ["x", "sigmas", "noise", "model"])
def test_a_field_of_the_name_of_what_samplers_are_given_is_refused(name: str) -> None:
    config = attrs.make_class("Named", {name: attrs.field(default=1.0)}, bases=(GridSampler,), frozen=True)
    namespace: dict[str, Any] = {}
    exec(f"def clashing(*, {name}, steps):\n    yield {name}, steps", namespace)
    with pytest.raises(TypeError, match=f"clashing: expected parameters among steps, grid, .*, found {name}"):
        sampler(config)(namespace["clashing"])


def test_a_field_that_every_sampler_has_is_refused() -> None:
    config = attrs.make_class("Named", {"guidance": attrs.field(default=0.5)}, bases=(GridSampler,), frozen=True)
    with pytest.raises(TypeError, match="its field guidance is one that every sampler has"):
        sampler(config)(in_one_step)


def test_a_sampler_that_returns_nothing_says_so() -> None:
    def forgetful(x: Tensor, sigmas: Sequence[float]) -> Iterator[Any]:
        x, _, _ = yield x, sigmas[0]

    with pytest.raises(NcsnxError, match="a sampler must return its last x, but this one returned None"):
        states_of(of_a_package(forgetful))  # type: ignore[arg-type]


def test_an_evaluation_inside_a_step_gives_a_state_and_counts() -> None:
    states = states_of(of_a_package(in_one_step))
    assert [state.evaluations for state in states] == [*range(1, 11), 10]
    assert all(first.sigma > second.sigma for first, second in pairwise(states))


def test_what_a_sampler_changes_in_place_changes_no_state() -> None:
    def in_place(x: Tensor, sigmas: Sequence[float]) -> Steps:
        for sigma, sigma_next in append_zero(sigmas):
            x, denoised, _ = yield x, sigma
            x -= denoised
            x *= sigma_next / sigma
            x += denoised
        return x

    def anew(x: Tensor, sigmas: Sequence[float]) -> Steps:
        for sigma, sigma_next in append_zero(sigmas):
            x, denoised, _ = yield x, sigma
            x = (x - denoised) * (sigma_next / sigma) + denoised
        return x

    for first, second in zip(states_of(of_a_package(in_place)), states_of(of_a_package(anew)), strict=True):
        assert torch.equal(first.x, second.x)
        assert torch.equal(first.denoised, second.denoised)


def test_a_class_that_derives_from_a_samplers_has_its_function() -> None:
    @attrs.frozen(kw_only=True)
    class Mine(EulerAncestral):
        eta: float = 0.5

    x = torch.ones(1, *SHAPE)
    found = [
        list(build_sampler(config)(scaled(gaussian_score), x, SIGMAS, noise=lambda k: x))[-1].x
        for config in (Mine(), EulerAncestral(eta=0.5))
    ]
    assert torch.equal(*found)


def test_a_plug_ins_function_for_a_class_goes_before_its_bases(monkeypatch: pytest.MonkeyPatch) -> None:
    @attrs.frozen(kw_only=True)
    class Mine(EulerAncestral):
        pass

    monkeypatch.setattr(contract, "load_plugins", lambda group: sampler(Mine)(ancestral))
    assert contract.definition_of(Mine).function is ancestral


G, S = 3.0, -2.0


@attrs.frozen(eq=False)
class Guiding:
    """A measurement that adds a tenth of σ to x and ½ to the sampler's, with the likelihood score G, times a factor of
    each image, to which it adds 1 inside a step."""

    factors: Tensor

    def __call__(self, x: Tensor, sigma: float | Tensor, step: int, last: State | None) -> Tensor:
        return x + sigma / 10

    def released(self, x: Tensor, last: State) -> Tensor:
        return x + 0.5

    def followed(self, x: Tensor, at: Tensor, sigma: float | Tensor, s: Tensor, last: State | None) -> Tensor:
        assert last is not None
        assert torch.equal(at, x + sigma / 10)
        return s + 1

    def scored(self, score: Score, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, Tensor]:
        return score(x, sigma), torch.full_like(x, G) * self.factors.view(-1, 1, 1, 1)

    def of(self, rows: slice | Tensor) -> Self:
        return attrs.evolve(self, factors=self.factors[rows])

    def admit(self, config: Sampler, sigmas: Sequence[float]) -> None:
        raise AssertionError("the driver does not ask")


def test_a_measurement_decides_on_the_networks_x_and_on_what_the_sampler_follows() -> None:
    told: list[tuple[float, ...]] = []

    def numbers(*tensors: Tensor) -> None:
        assert all(bool((tensor == tensor.flatten()[0]).all()) for tensor in tensors)
        told.append(tuple(float(tensor.flatten()[0]) for tensor in tensors))

    def script(x: Tensor, noise: Draw, model: DenoisingModel) -> Steps:
        numbers(*(yield x, 1.0))
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
                scaled(lambda x, sigma: torch.full_like(x, S)),
                x,
                noise=lambda k: x,
                rule=Guiding(torch.ones(2)),
                adaptive=adaptive,
            )
        )
        arrivals = [(0.1, 1.0), (1.1, 1.0), (3.05, 0.5)]
        replies = [(at + 0.5, at + sigma**2 * (S + G), S + G - 0.5 / sigma**2) for at, sigma in arrivals]
        # inside a step, the denoised image belongs to the sampler's x
        inside = (2 + 0.5**2 * (S + G + 1), S + G + 1)
        assert told == [pytest.approx(step) for step in (replies[0], replies[1], inside, replies[2])]
        places = [state.x.flatten().tolist() for state in states]
        expected = [place for place, _ in arrivals] + [4]
        if not adaptive:
            expected.insert(2, 2.05)
        assert places == [pytest.approx([place] * 2) for place in expected]
        assert [state.sigma for state in states][-1] == 0.25
        assert [state.evaluations for state in states] == ([1, 2, 4, 4] if adaptive else [1, 2, 3, 4, 4])


def test_an_adaptive_sampler_evaluates_some_images_each_at_its_own_sigma() -> None:
    """The measurement and the count are those of the images that are evaluated."""
    rows, sigma = torch.tensor([2, 0]), torch.tensor([0.5, 0.25]).double().view(-1, 1, 1, 1)
    evaluated: list[Tensor] = []

    def score(x: Tensor, sigma: float | Tensor) -> Tensor:
        evaluated.append(x.flatten())
        return torch.full_like(x, S)

    def script(x: Tensor, noise: Draw, model: DenoisingModel) -> Steps:
        x, _, _ = yield x, 1.0
        denoised, s = model(x[rows], sigma, rows)
        assert denoised.flatten().tolist() == pytest.approx([2.6 + 0.25 * (S + 2 * G + 1), 0.6 + 0.0625 * (S + 1)])
        assert s.flatten().tolist() == pytest.approx([S + 2 * G + 1, S + 1])
        return x

    x = torch.arange(3.0).double().view(-1, 1, 1, 1)
    guiding = Guiding(torch.arange(3.0))
    states = list(drive(script, scaled(score), x, noise=lambda k: x, rule=guiding, adaptive=True))
    assert evaluated[1].tolist() == pytest.approx([2.65, 0.625])
    assert [state.evaluations for state in states] == [1, 5 / 3]
