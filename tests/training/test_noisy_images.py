"""Laws of learning from noisy images: what is learned is the clean data with noise of σ, whatever the data."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor

import ncsnx
from ncsnx.config import Arrays, Experiment, Heun, Karras, LogNormal, NCSNv2
from ncsnx.data import Splits, open_data
from ncsnx.data.value_statistics import measured_space
from ncsnx.errors import NcsnxError
from ncsnx.inverse import Task
from ncsnx.inverse.operators.pixels import Identity
from ncsnx.planning.survey import measure_distances
from ncsnx.randomness import Purpose, Stream
from ncsnx.runtime import Runtime
from ncsnx.samplers.state import tweedie
from ncsnx.sampling.model import Model
from ncsnx.space import Space
from ncsnx.training.losses import score_matching_loss
from ncsnx.training.training_state import TrainingState
from ncsnx.training.training_step import TrainingStep
from ncsnx.work import SILENT
from tests.config.examples import minimal
from tests.samplers.toy import Mixture

NOISE = 0.6
GAUSSIAN = Mixture((1.0,), (0.3,), (0.5,))
BIMODAL = Mixture((0.7, 0.3), (-1.0, 1.0), (0.1, 0.2))
PIXELS, KNOTS = 100_000, torch.linspace(-2.5, 3.0, 23, dtype=torch.float64)


def drawn(data: Mixture, count: int, seed: int) -> tuple[Tensor, Callable[[], Tensor]]:
    """Clean pixels (count, 1, 1, 1) float64, and draws of unit normal noise of that shape."""
    generator = torch.Generator().manual_seed(seed)
    part = torch.multinomial(torch.tensor(data.weights), count, replacement=True, generator=generator)

    def normal() -> Tensor:
        return torch.randn(count, 1, 1, 1, generator=generator, dtype=torch.float64)

    means, deviations = (
        torch.tensor(values).double()[part].view(-1, 1, 1, 1) for values in (data.means, data.deviations)
    )
    return means + deviations * normal(), normal


class Hats:
    """A network of piecewise linear functions of each pixel, in which any loss that is a square has one minimum."""

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights

    def scaled_score(self, x: Tensor, sigma: Tensor, cond: object = None) -> Tensor:
        step = KNOTS[1] - KNOTS[0]
        hats = (1 - (x.clamp(KNOTS[0], KNOTS[-1])[..., None] - KNOTS).abs() / step).clamp(min=0)
        return hats @ self.weights


def learned(images: Tensor, noise: Tensor, sigma: float, noise_of_data: float) -> Hats:
    """The exact minimum of the loss at σ: one step of Newton's method."""
    each = torch.full((len(images),), sigma, dtype=torch.float64)

    def loss(weights: Tensor) -> Tensor:
        network: Any = Hats(weights)
        return score_matching_loss(network, images, each, noise, noise_of_data=noise_of_data).sum()

    start = torch.zeros(len(KNOTS), dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(start), start)
    hessian = torch.autograd.functional.hessian(loss, start)
    assert isinstance(hessian, Tensor)
    return Hats(-torch.linalg.lstsq(hessian, gradient, driver="gelsd").solution)  # some knots have no pixels


@pytest.mark.parametrize("ratio", [1.1, 1.25, 1.5])
@pytest.mark.parametrize("data", [GAUSSIAN, BIMODAL], ids=["gaussian", "bimodal"])
def test_a_denoiser_learned_from_noisy_images_is_as_good_as_one_learned_from_clean_ones(
    data: Mixture, ratio: float
) -> None:
    """The variance of the minimum's D is at most K σ² (σ/a)²/N for K hats and N pixels: below 0.6 % of the error."""
    sigma, (clean, normal) = ratio * NOISE, drawn(data, PIXELS, seed=1)
    noisy, added = clean + NOISE * normal(), normal()
    truth, fresh = drawn(data, PIXELS, seed=2)
    x = truth + sigma * fresh()

    def error(images: Tensor, noise_of_data: float) -> float:
        network = learned(images, added, sigma, noise_of_data)
        denoised = tweedie(x, sigma, network.scaled_score(x, torch.tensor(sigma)) / sigma)
        return float((denoised - truth).square().mean().sqrt())

    from_clean, exact = (
        error(clean, 0.0),
        float((tweedie(x, sigma, data.score(x, sigma)) - truth).square().mean().sqrt()),
    )
    assert error(noisy, NOISE) < 1.01 * from_clean
    assert from_clean < 1.01 * exact
    assert error(noisy, 0.0) > 1.03 * from_clean, "the test would not see a loss that takes noise for clean images"


def test_the_loss_is_finite_at_the_noise_itself_and_that_of_clean_images_stays() -> None:
    network: Any = Hats(torch.randn(len(KNOTS), generator=torch.Generator().manual_seed(0)).double())
    clean, normal = drawn(BIMODAL, 100, seed=3)
    noise = normal()
    for sigma in (NOISE, NOISE * (1 - 1e-7), NOISE / 2):
        at = score_matching_loss(network, clean, torch.full((100,), sigma).double(), noise, noise_of_data=NOISE)
        torch.testing.assert_close(at, 0.5 * noise.square().flatten(), rtol=1e-2, atol=1e-4)
    each = torch.full((100,), 1.0).double()
    expected = 0.5 * (network.scaled_score(clean + noise, each) + noise).square().flatten()
    assert torch.equal(score_matching_loss(network, clean, each, noise), expected)


def images_of(data: Mixture, folder: Path, noise: float, **fields: Any) -> tuple[Arrays, Splits]:
    """1,000 images of 8×8 whose columns are of one value each, from `data`, with noise, in a file of floats."""
    clean, _ = drawn(data, 8_000, seed=4)
    rows = clean.view(1000, 1, 8).expand(1000, 8, 8).numpy()
    images = rows + noise * np.random.default_rng(5).standard_normal(rows.shape)
    np.save(folder / "x.npy", images.astype("f4"))
    config = Arrays(
        path=str(folder / "x.npy"), image_size=8, range="unbounded", scale=2.0, held_out=0.1, noise=noise, **fields
    )
    return config, open_data(config, folder)


def experiment_on(data: Arrays) -> Experiment:
    schedule = LogNormal(sigma_max=5.0, sigma_min=max(0.01, data.noise / 2), levels=8)
    return attrs.evolve(minimal(), data=data, schedule=schedule, model=NCSNv2(width=4))


@pytest.mark.parametrize("data", [GAUSSIAN, BIMODAL], ids=["gaussian", "bimodal"])
def test_the_size_and_the_distances_of_noisy_images_are_those_of_the_clean_ones(data: Mixture, tmp_path: Path) -> None:
    """Standard errors: of the noise's variance 0.6 % (57,600 values); of a pair's distance² 2 √(2 · 64) σ_n²."""
    spaces, found = [], []
    for noise in (0.0, NOISE):
        config, splits = images_of(data, tmp_path, noise)
        space = measured_space(experiment_on(config), splits, "x", SILENT)
        spaces.append(space)
        found.append(measure_distances(splits.train, config, space, seed=0, work=SILENT))
    clean, noisy = spaces
    assert (clean.noise, noisy.noise) == (0.0, NOISE / 2)
    assert clean.sigma_data is not None
    assert noisy.sigma_data == pytest.approx(clean.sigma_data, rel=0.02)
    assert found[1].largest == pytest.approx(found[0].largest, rel=0.15)
    assert found[1].quantile == pytest.approx(found[0].quantile, rel=0.1)
    assert found[1].source.endswith("without their noise")


def test_noise_that_the_images_cannot_have_is_refused(tmp_path: Path) -> None:
    clean, splits = images_of(BIMODAL, tmp_path, 0.0)
    claimed = attrs.evolve(clean, noise=0.2)
    with pytest.raises(NcsnxError, match=r"data.noise=0.2 is more than the images have, at most 0.*clean"):
        measured_space(experiment_on(claimed), splits, "x", SILENT)
    noisy, splits = images_of(BIMODAL, tmp_path, NOISE)
    for factor, is_refused in ((1.0, False), (1.08, False), (1.5, True)):
        claimed = attrs.evolve(noisy, noise=factor * NOISE)
        try:
            measured_space(experiment_on(claimed), splits, "x", SILENT)
        except NcsnxError:
            assert is_refused
        else:
            assert not is_refused
    claimed = attrs.evolve(noisy, noise=10.0)
    with pytest.raises(NcsnxError, match="alone explains all distances"):
        measure_distances(splits.train, claimed, Space.of(claimed), seed=0, work=SILENT)


def test_training_draws_no_noise_below_that_of_the_data(tmp_path: Path) -> None:
    """A log-normal σ is that of the added noise: σ² − σ_n² has the drawn distribution."""
    config, splits = images_of(BIMODAL, tmp_path, NOISE)
    experiment = experiment_on(config)
    space = measured_space(experiment, splits, "x", SILENT)
    step = TrainingStep(TrainingState(experiment, Runtime.choose(device="cpu"), space), splits.train.value_range)
    positions = torch.arange(512)
    pixels = splits.train.read(positions).pixels
    _, sigma, _, _ = step.inputs(pixels, positions, torch.zeros(512, dtype=torch.int64))
    stream = Stream(experiment.seed, Purpose.NOISE_LEVEL)
    added = torch.exp(-1.2 + 1.2 * stream.normal(positions, (1,))[:, 0])
    torch.testing.assert_close(sigma.square(), added.square() + space.noise**2)


def exact_model(data: Mixture, **changes: Any) -> Model:
    """A model of images of independent pixels with the exact score, that learned from noisy images."""
    space = attrs.evolve(Space.with_ends((1, 4, 4), None), noise=NOISE)
    sampler = Heun(steps=40, grid=Karras())
    given = {"sigma_max": 20.0, "sigma_min": NOISE, "gives": "score", "sampler": sampler, **changes}

    def score(x: Tensor, sigma: Tensor) -> Tensor:
        return data.score(x, sigma.view(-1, 1, 1, 1))

    return ncsnx.Model.of(score, space=space, **given)


def test_samples_are_the_means_behind_noisy_images_of_either_mode() -> None:
    """Shares of 16,000 pixels have a standard error of 0.4 %, their variance one of at most 1 %."""
    images = ncsnx.draw(exact_model(BIMODAL), 1_000)
    clean, normal = drawn(BIMODAL, 1_000_000, seed=6)
    x = clean + NOISE * normal()
    expected = tweedie(x, NOISE, BIMODAL.score(x, NOISE))
    pixels = torch.Tensor(images)
    for threshold in (-0.5, 0.0, 0.5):
        assert float((pixels > threshold).double().mean()) == pytest.approx(
            float((expected > threshold).double().mean()), abs=0.02
        )
    assert float(pixels.var()) == pytest.approx(float(expected.var()), rel=0.05)
    assert float(expected.var()) < 0.95 * BIMODAL.variance, "they are smoother than the images"


def test_no_way_in_goes_below_the_noise() -> None:
    model = exact_model(BIMODAL)
    y = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.denoise(y, NOISE), tweedie(y, NOISE, BIMODAL.score(y, NOISE)))
    with pytest.raises(NcsnxError, match=r"noise of σ = 0.6, so it knows no σ below: not 0.3"):
        model.score(y, 0.3)
    with pytest.raises(NcsnxError, match=r"knows no σ below: not 0.1"):
        ncsnx.draw(model, 2, sampler=Heun(steps=5, grid=Karras(sigma_min=0.1)))
    at_noise = Task.of_measurement(Identity((1, 4, 4)), y, noise=NOISE, rule="reverse")
    with pytest.raises(NcsnxError, match=r"knows no σ below"):
        ncsnx.draw(model, 2, task=at_noise)
    above = Task.of_measurement(Identity((1, 4, 4)), y, noise=2 * NOISE, rule="reverse")
    assert ncsnx.draw(model, 2, task=above).shape == (4, 1, 4, 4)
    below = Task.of_measurement(Identity((1, 4, 4)), y, noise=NOISE / 2, rule="reverse")
    with pytest.raises(NcsnxError, match=r"this model knows noise from 0.6 to 20"):
        ncsnx.draw(model, 2, task=below)


def test_the_density_is_that_of_noisy_images() -> None:
    """On Gaussian pixels, in closed form: N(0.3, 0.5² + σ_n²) each. Without the noise, the last would be 6 nats off."""
    values = torch.linspace(-1, 1, 3).view(3, 1, 1, 1).expand(3, 1, 4, 4)
    variance = 0.5**2 + NOISE**2
    expected = 16 * (-((values[:, 0, 0, 0] - 0.3) ** 2) / (2 * variance) - 0.5 * math.log(2 * math.pi * variance))
    found = exact_model(GAUSSIAN, sigma_max=200.0).log_density(values)
    torch.testing.assert_close(found, expected.double(), rtol=0, atol=0.1)


def counts_of(clean: Tensor, gain: float, read: float, normal: Tensor, seed: int) -> Tensor:
    """Counted photons of values above 0, each worth `gain`, with read noise."""
    photons = np.random.default_rng(seed).poisson((clean.clamp(min=0) / gain).numpy())
    return gain * torch.from_numpy(photons.astype("f8")) + read * normal


@pytest.mark.parametrize(("gain", "read"), [(0.1, 0.05), (0.03, 0.1)])
def test_a_denoiser_learned_from_counts_is_as_good_as_one_learned_from_clean_images(gain: float, read: float) -> None:
    """Of two modes with some 4 and 10, or 13 and 33 counts. The noise of the form is nearly normal."""
    data = Mixture((0.7, 0.3), (0.4, 1.0), (0.05, 0.1))
    config = Arrays(path="x.npy", image_size=1, range="unbounded", scale=1.0, gain=gain, noise=read)
    space = Space.of(config)
    assert space.shot is not None
    clean, normal = drawn(data, PIXELS, seed=1)
    counts, added = counts_of(clean, gain, read, normal(), seed=7), normal()
    truth, fresh = drawn(data, PIXELS, seed=2)
    sigma = 1.2 * space.noise
    more = math.sqrt(sigma**2 - space.noise**2)
    x = space.encode(counts_of(truth, gain, read, fresh(), seed=8)) + more * fresh()

    def error(images: Tensor, noise_of_data: float) -> float:
        network = learned(space.encode(images), added, sigma, noise_of_data)
        denoised = tweedie(x, sigma, network.scaled_score(x, torch.tensor(sigma)) / sigma)
        return float((space.decode(denoised) - truth).square().mean().sqrt())

    assert error(counts, space.noise) < 1.05 * error(clean, 0.0)
    assert error(counts, 0.0) > 1.05 * error(clean, 0.0), "the test would not see noise taken for clean images"


def test_the_space_of_counts_keeps_their_values_and_has_the_slope_of_its_form() -> None:
    """The inverse of the mean is that of the form but for ¼ of a count, and less at black."""
    for bounds in ({"range": "unbounded", "scale": 50.0}, {"high": 50.0}):
        space = Space.of(Arrays(path="x.npy", image_size=1, gain=2.0, noise=3.0, **bounds))
        assert space.shot is not None
        values = torch.linspace(0.1, 1, 20).double().view(-1, 1, 1, 1) * space.span
        photon = space.shot.gain * space.span
        assert float((space.decode(space.encode(values)) - values).abs().max()) < 0.3 * photon
        torch.testing.assert_close(
            space.span * space.shot.values(space.to_form(space.encode(values)) / space.span), values
        )
        slopes = torch.func.vmap(torch.func.grad(space.encode))(values.flatten())
        torch.testing.assert_close(space.log_slope(values), slopes.log())
