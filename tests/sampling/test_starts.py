"""Samples that start below the first level, from an image."""

from pathlib import Path

import attrs
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

import ncsnx
from ncsnx.config import Arrays, ConsistentAnnealed, Exponential
from ncsnx.config.sampler import Sampler
from ncsnx.errors import NcsnxError
from ncsnx.inverse import Blurring, Fourier, LazyStack, LinearMap, Masking, Sense, Task, simulated_maps
from ncsnx.sampling.draws import StartImages
from ncsnx.sampling.score_model import ScoreModel
from tests.samplers.registry import usual_settings

LEVEL = 0.02
QUICK = ConsistentAnnealed(steps=4)


@pytest.fixture
def model(trained: Path) -> ScoreModel:
    return ncsnx.load(trained / "runs/digits")


@pytest.fixture
def digits() -> Tensor:
    return torch.from_numpy(load_digits().images[:2] / 16).float()[:, None]


@pytest.mark.parametrize("sampler", list(usual_settings(6)), ids=repr)
def test_every_sampler_starts_at_the_level_from_the_image(
    model: ScoreModel, digits: Tensor, sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[float, Tensor]] = []
    score = model.network.score

    def watched(x: Tensor, sigma: float | Tensor) -> Tensor:
        seen.append((float(torch.as_tensor(sigma).max()), x.clone()))
        return score(x, sigma)

    monkeypatch.setattr(model.network, "score", watched)
    images = ncsnx.draw(model, n=2, start=digits, start_sigma=LEVEL, sampler=sampler)
    assert max(sigma for sigma, _ in seen) <= 1.5 * LEVEL  # churn adds noise, up to √2 times the level
    assert float((seen[0][1] - digits).std()) < 3 * LEVEL
    assert float((images - digits).abs().mean()) < 10 * LEVEL


def test_a_start_of_unbounded_data_is_in_its_own_values(model: ScoreModel, digits: Tensor) -> None:
    own = attrs.evolve(model.experiment, data=Arrays(path="x", image_size=8, range="unbounded", scale=50.0))
    images = ncsnx.draw(attrs.evolve(model, experiment=own), n=2, start=50 * digits, start_sigma=LEVEL, sampler=QUICK)
    assert float((images - 50 * digits).abs().mean()) < 10 * LEVEL * 50


class _Broken(LinearMap):
    """Twice the image, with an adjoint that is none."""

    shape = (1, 8, 8)
    measured_shape = (1, 8, 8)

    def apply(self, x: Tensor) -> Tensor:
        return 2 * x

    def adjoint(self, y: Tensor) -> Tensor:
        return y


@pytest.mark.parametrize(
    ("task", "told"),
    [
        (Task(name="t", operator=_Broken(), values=torch.ones(1, 1, 8, 8)), "adjoint is not the adjoint of apply"),
        (
            Task(
                name="t",
                operator=Sense(simulated_maps((8, 8), 3), torch.ones(8, 8), channels=1),
                values=torch.ones(1, 3, 8, 8),
            ),
            "expected measurements that are complex",
        ),
    ],
)
def test_a_measurement_is_checked_before_its_image_is_started_from(model: ScoreModel, task: Task, told: str) -> None:
    with pytest.raises(NcsnxError, match=told):
        ncsnx.draw(model, n=1, task=task, start_sigma=LEVEL, sampler=QUICK)
    with pytest.raises(NcsnxError, match=told):
        ncsnx.restore(model.source, task=task, start_sigma=LEVEL, sampler=QUICK, progress=False)


def test_the_level_that_is_said_is_the_one_that_is_taken(model: ScoreModel, digits: Tensor) -> None:
    lower = attrs.evolve(QUICK, grid=Exponential(sigma_max=0.5))
    start = StartImages(sigma=2.0, images=digits, facts={})
    begun = attrs.evolve(model, experiment=attrs.evolve(model.experiment, sampler=lower)).starting(start)
    assert begun.start_in_words == "starts at σ = 0.5000, the first level of sampler.grid"


def test_no_trained_level_is_just_below_the_start() -> None:
    trained = [1.0, 0.5, 0.25]
    start = StartImages(sigma=0.5001, images=torch.zeros(1, 1, 8, 8), facts={})
    assert start.levels(trained, any_sigma=True) == (0.5001, 0.25)
    assert attrs.evolve(start, sigma=0.9).levels(trained, any_sigma=True) == (0.9, 0.5, 0.25)
    assert attrs.evolve(start, sigma=0.2501).levels(trained, any_sigma=True) == (0.2501, 0.25)


def test_a_real_image_whose_measurement_is_complete_is_started_from_itself(digits: Tensor) -> None:
    known = torch.zeros(8, 8, dtype=torch.bool)
    known[:, :5] = True  # with their mirror images, all frequencies
    operator = Fourier((1, 8, 8), known)
    task = Task(name="t", operator=operator, values=operator.coefficients(digits.double()))
    torch.testing.assert_close(task.adjoint_images(), digits.double())


def test_a_blurred_image_is_started_from_without_its_amplified_noise(digits: Tensor) -> None:
    operator = Blurring((1, 8, 8), 2.0)
    singular, generator = operator.singular_values.double(), torch.Generator().manual_seed(0)
    exact = operator.coefficients(digits.double())
    noisy = exact + 0.01 * torch.randn(exact.shape, generator=generator, dtype=torch.float64) / singular
    begun = [Task(name="t", operator=operator, values=values).adjoint_images() for values in (exact, noisy)]
    inverted = [operator.images(values) for values in (exact, noisy)]
    assert float((inverted[1] - inverted[0]).std()) > 5 * float((begun[1] - begun[0]).std())


def test_a_task_in_units_of_the_scale_has_all_its_parts_in_them(digits: Tensor) -> None:
    operator = Masking(torch.ones(1, 8, 8, dtype=torch.bool))
    lazy = LazyStack(2, lambda index: 50 * digits[index])
    whole = Task(name="t", operator=operator, values=50 * digits.flatten(1), inputs=lazy, truth=50 * digits, noise=5.0)
    found = whole.divided(50.0)
    assert found.noise == 0.1
    for part in (found.values.view(2, 1, 8, 8), found.inputs, found.truth):
        torch.testing.assert_close(part, digits)
    assert whole.divided(1.0) is whole
