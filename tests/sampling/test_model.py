"""Models of any origin: functions of Python, and addresses of packages."""

import inspect
import math
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor

import ncsnx
from ncsnx.config import AnnealedLangevin, ConsistentAnnealed, Digits, Heun, ProbabilityFlowODE, Sampler
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.inverse import Masking, Task
from ncsnx.networks.function import Gives
from ncsnx.sampling import loading
from ncsnx.sampling.model import DEFAULT_SAMPLER, Model
from ncsnx.space import Space

MEAN, DEVIATION, SHAPE = 0.2, 0.3, (1, 4, 4)


def denoised(x: Tensor, sigma: Tensor) -> Tensor:
    """The denoiser of independent pixels of N(MEAN, DEVIATION²)."""
    share = DEVIATION**2 / (DEVIATION**2 + sigma.view(-1, 1, 1, 1) ** 2)
    return MEAN + share * (x - MEAN)


def noise(x: Tensor, sigma: Tensor) -> Tensor:
    return (x - denoised(x, sigma)) / sigma.view(-1, 1, 1, 1)


def score(x: Tensor, sigma: Tensor) -> Tensor:
    return -noise(x, sigma) / sigma.view(-1, 1, 1, 1)


def gaussian(sampler: Sampler = DEFAULT_SAMPLER) -> Model:
    return Model.of(denoised, shape=SHAPE, sigma_max=10.0, sigma_min=0.01, sampler=sampler)


def test_samples_of_an_exact_denoiser_have_the_moments_of_the_data() -> None:
    images = ncsnx.draw(gaussian(), n=600)
    assert images.shape == (600, *SHAPE)
    count = images.numel()
    assert float(images.mean()) == pytest.approx(MEAN, abs=5 * DEVIATION / math.sqrt(count))
    # 1 %: the bias of Heun's 40 steps, by the factors of its formula
    assert float(images.std()) == pytest.approx(DEVIATION, rel=5 / math.sqrt(2 * count) + 0.01)
    assert torch.allclose(ncsnx.draw(gaussian(), n=3, batch_size=2), images[:3], atol=1e-5)


@pytest.mark.parametrize("gives", ["noise", "score"])
def test_a_function_may_give_the_noise_or_the_score(gives: Gives) -> None:
    function = {"noise": noise, "score": score}[gives]
    model = Model.of(function, shape=SHAPE, sigma_max=10.0, sigma_min=0.01, gives=gives)
    assert torch.allclose(ncsnx.draw(model, n=4), ncsnx.draw(gaussian(), n=4), atol=1e-4)


def test_it_restores_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    known = torch.zeros(SHAPE, dtype=torch.bool)
    known[:, :2] = True
    task = Task.of_measurement(Masking(known), torch.full((1, 8), 0.9))
    restored = ncsnx.restore(gaussian(ConsistentAnnealed(steps=40)), task=task, n=200)
    images = restored.tensor()
    assert restored.folder.parent == Path("samples/denoised")
    assert torch.allclose(images[:, :, :2], torch.tensor(0.9), atol=1e-5)
    free = images[:, :, 2:]
    assert float(free.mean()) == pytest.approx(MEAN, abs=5 * DEVIATION / math.sqrt(free.numel()) + 0.02)


def test_its_density_is_that_of_the_data() -> None:
    values = MEAN + DEVIATION * torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0))
    deviation = math.hypot(DEVIATION, 0.01)
    expected = torch.distributions.Normal(MEAN, deviation).log_prob(values.double()).flatten(1).sum(dim=1)
    # the prior N(0, σ_max²) stands for N(MEAN, σ_max² + DEVIATION²): ½ (DEVIATION² + MEAN²)/σ_max² a dimension
    prior = 16 * 0.5 * (DEVIATION**2 + 10 * MEAN) / 10.0**2
    torch.testing.assert_close(gaussian().log_density(values), expected, rtol=0, atol=prior + 0.01)
    estimated = gaussian().log_density(values, probes=1)  # of a diagonal Jacobian, without noise
    torch.testing.assert_close(estimated, expected, rtol=0, atol=prior + 0.01)


def test_a_model_with_a_data_set_is_measured_like_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise-free digits are denoised to their mean: a wrong model, and a finite number."""
    monkeypatch.chdir(tmp_path)
    model = Model.of(denoised, data=Digits(), sigma_max=10.0, sigma_min=0.01, sampler=Heun(steps=5))
    found = ncsnx.likelihood(model, n=4, tolerance=0.1)
    assert found.where == "denoised"
    assert math.isfinite(found.best.score or math.nan)
    features = ncsnx.config.Classifier(steps=20, width=4)
    scores = ncsnx.fid(model, n=20, features=features, cache=tmp_path / "cache")
    again = ncsnx.fid(model, n=20, features=features, cache=tmp_path / "cache")
    assert scores.best.score == again.best.score
    assert scores.protocol["n"] == 20
    assert list(tmp_path.iterdir()) == [tmp_path / "cache"], "nothing is kept but the cache"
    with pytest.raises(UsageError, match="needs the model's data"):
        ncsnx.likelihood(gaussian())


@pytest.mark.parametrize("sampler", [Heun(steps=4), ProbabilityFlowODE(tolerance=1e-3)], ids=["grid", "adaptive"])
def test_further_inputs_follow_the_images_of_a_batch(sampler: Sampler) -> None:
    """Image i is nearest to the mean of position i; the adaptive sampler's images leave the batch one by one."""

    def around(x: Tensor, sigma: Tensor, mean: Tensor) -> Tensor:
        each = mean.view(-1, 1, 1, 1)
        share = (0.01 * (1 + each)) ** 2 / ((0.01 * (1 + each)) ** 2 + sigma.view(-1, 1, 1, 1) ** 2)
        return each + share * (x - each)

    model = Model.of(
        around,
        shape=SHAPE,
        sigma_max=10.0,
        sigma_min=0.01,
        sampler=sampler,
        cond=lambda seed, positions: {"mean": seed + positions.float()},
    )
    images = ncsnx.draw(model, n=5, seed=3, batch_size=3)
    assert torch.allclose(images.mean(dim=(1, 2, 3)), 3 + torch.arange(5.0), atol=0.4), (
        "nearer to its own mean than to another's"
    )
    rows = ncsnx.draw(model, n=2, seed=3, interpolate=2)
    assert torch.allclose(rows.mean(dim=(1, 2, 3)), torch.tensor([3.0, 3.0, 4.0, 4.0]), atol=0.4), (
        "nearer to its own mean than to another's"
    )


def test_few_calls_lead_from_a_draw_to_the_network() -> None:
    depths = []

    def watched(x: Tensor, sigma: Tensor) -> Tensor:
        depths.append(sum("/ncsnx/" in frame.filename for frame in inspect.stack(0)))
        return denoised(x, sigma)

    ncsnx.draw(Model.of(watched, shape=SHAPE, sigma_max=10.0), n=1)
    assert depths[0] == 11, "a real network and its first convolution make 12 of it"


def test_a_module_keeps_its_mode_and_its_gradients() -> None:
    class Denoiser(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mean = torch.nn.Parameter(torch.tensor(MEAN))

        def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
            return self.mean + denoised(x, sigma) - MEAN

    module = Denoiser().train()
    model = Model.of(module, shape=SHAPE, sigma_max=10.0)
    assert not model.score(torch.zeros(1, *SHAPE), 1.0).requires_grad
    ncsnx.draw(model, n=1)
    assert module.training
    assert module.mean.requires_grad
    assert repr(model).startswith("Model of Denoiser\n  FunctionNetwork, 1 parameter;")


def test_an_address_is_loaded_by_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_loaders", dict(loading._loaders))

    @ncsnx.loader("toy")
    def load_toy(address: str, runtime: ncsnx.Runtime) -> Model:
        return attrs.evolve(gaussian(), runtime=runtime)

    assert torch.equal(ncsnx.draw(ncsnx.load("toy://gaussian"), n=2), ncsnx.draw(gaussian(), n=2))
    with pytest.raises(ValueError, match="toy:// already has a loader"):
        ncsnx.loader("toy")(lambda address, runtime: gaussian())
    for given, said in (
        ({"source": "other://gaussian"}, "no installed package loads such addresses; there are hf://, toy://"),
        ({"source": "toy://gaussian", "ckpt": "latest"}, "toy://gaussian has one checkpoint; leave ckpt out"),
    ):
        with pytest.raises(UsageError, match=said):
            ncsnx.load(**given)


def test_what_only_a_training_has_is_refused_in_a_sentence() -> None:
    with pytest.raises(UsageError, match="give shape, space or data"):
        Model.of(denoised, sigma_max=1.0)
    with pytest.raises(NcsnxError, match="denoised was not trained by ncsnx"):
        _ = gaussian().checkpoint
    with pytest.raises(UsageError, match="sampler=fast needs a run"):
        ncsnx.draw(gaussian(), n=1, sampler="fast")
    with pytest.raises(UsageError, match="visits the levels that a network was trained at, and denoised has none"):
        ncsnx.draw(gaussian(AnnealedLangevin(step_size=1e-5, steps_per_level=1)), n=1)
    with pytest.raises(UsageError, match="range is for the loading of weights, and the model is loaded"):
        ncsnx.fid(gaussian(), range="2")
    with pytest.raises(UsageError, match=r"this needs a run, with its checkpoints; ncsnx\.draw, sample"):
        ncsnx.loss(gaussian())


GIVEN: dict[str, Any] = {"function": denoised, "shape": SHAPE, "sigma_max": 1.0}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"function": "denoised"}, "function must be a function"),
        ({"gives": "nosie"}, "gives must be one of denoised, noise, score, not 'nosie'"),
        ({"sigma_min": 2.0}, "expected 0 < sigma_min < sigma_max, found 2.0 and 1.0"),
        ({"shape": (4, 4)}, r"shape must be \(channels, height, width\)"),
        ({"data": Digits()}, "shape is for a model without a space and a data set"),
        ({"shape": None, "data": Digits(), "ends": (-1, 1)}, "ends are for a model with a shape alone"),
        ({"shape": None, "data": Digits(), "space": Space.with_ends(SHAPE, (0, 1))}, "its shape differs"),
        ({"sampler": "heun"}, "sampler must be a configuration"),
        ({"device": "cudda"}, "device cudda: expected auto, cpu"),
    ],
)
def test_a_contradiction_is_refused_before_anything_is_drawn(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Model.of(**(GIVEN | changes))


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x, sigma: x[:1], r"must return a tensor of the shape of x, \(2, 1, 4, 4\), not \(1, 1, 4, 4\)"),
        (lambda x, sigma: (x,), "not tuple"),
    ],
)
def test_a_result_of_another_shape_is_refused(function: Any, said: str) -> None:
    with pytest.raises(NcsnxError, match=said):
        ncsnx.draw(Model.of(function, shape=SHAPE, sigma_max=1.0), n=2)


def test_a_function_without_a_gradient_has_no_density_but_samples() -> None:
    model = Model.of(torch.no_grad()(denoised), shape=SHAPE, sigma_max=10.0)
    assert torch.isfinite(ncsnx.draw(model, n=1)).all()
    with pytest.raises(NcsnxError, match="returns a tensor without a gradient"):
        model.log_density(torch.zeros(1, *SHAPE))


def test_a_function_may_change_its_arguments() -> None:
    def in_place(x: Tensor, sigma: Tensor) -> Tensor:
        return x.sub_(denoised(x.clone(), sigma)).div_(sigma.view(-1, 1, 1, 1))

    changing = Model.of(in_place, shape=SHAPE, sigma_max=10.0, sigma_min=0.01, gives="noise")
    assert torch.allclose(ncsnx.draw(changing, n=2), ncsnx.draw(gaussian(), n=2), atol=1e-4)


def test_images_of_another_function_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    near, far = (
        Model.of(lambda x, sigma, mean=mean: denoised(x, sigma) + mean, shape=SHAPE, sigma_max=10.0)
        for mean in (0.0, 50.0)
    )
    first = ncsnx.sample(near, n=2)
    assert ncsnx.sample(near, n=2).folder == first.folder
    assert float((ncsnx.sample(far, n=2).tensor() - first.tensor()).abs().min()) > 10


class Shifted(torch.nn.Module):
    """A denoiser with a constant that isn't among its weights."""

    def __init__(self, shift: float, *weights: float) -> None:
        super().__init__()
        self.shift, self.weights = shift, torch.nn.ParameterList([torch.tensor(each) for each in weights])

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return denoised(x, sigma) + self.shift


@pytest.mark.parametrize("weights", [(), (1.0, 2.0)], ids=["no weights", "equal weights"])
def test_modules_that_only_a_constant_tells_apart_have_images_of_their_own(
    weights: tuple[float, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    near, far = (Model.of(Shifted(shift, *weights), shape=SHAPE, sigma_max=10.0) for shift in (0.0, 50.0))
    first, second = ncsnx.sample(near, n=1), ncsnx.sample(far, n=1)
    assert first.folder != second.folder
    assert float((second.tensor() - first.tensor()).min()) > 10


def test_a_named_function_resumes_from_the_images_of_an_earlier_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def folder(identity: str | None, *weights: float) -> Path:
        model = Model.of(Shifted(0.0, *weights), shape=SHAPE, sigma_max=10.0, identity=identity)
        return ncsnx.sample(model, n=1).folder

    first = folder("shift 0")
    begun = (first / "protocol.json").stat().st_mtime_ns
    assert folder("shift 0") == first
    assert (first / "protocol.json").stat().st_mtime_ns == begun
    assert first not in {folder("shift 1"), folder(None), folder("shift 0", 1.0)}


def test_pictures_have_the_ends_that_are_given() -> None:
    """The range of EDM: x = −1 is black, 1 is white."""
    dark = Model.of(lambda x, sigma: torch.full_like(x, -1.0), shape=SHAPE, ends=(-1, 1), sigma_max=10.0)
    assert float(ncsnx.draw(dark, n=1).max()) == 0.0
    assert dark.space.ends == (-1.0, 1.0)
    assert float(dark.to_network(torch.ones(1))) == 1.0


def test_each_image_has_its_own_sigma() -> None:
    model, x = gaussian(), torch.rand(4, *SHAPE)
    sigma = torch.tensor([0.1, 0.5, 1.0, 2.0])  # as many as an image has columns
    assert torch.equal(model.denoise(x, sigma), model.denoise(x, sigma.view(-1, 1, 1, 1)))


def test_a_density_has_the_further_inputs_of_its_images() -> None:
    def around(x: Tensor, sigma: Tensor, mean: Tensor) -> Tensor:
        each = mean.view(-1, 1, 1, 1)
        return denoised(x - each, sigma) + each

    spread: Any = {"shape": SHAPE, "sigma_max": 1000.0, "sigma_min": 0.01}
    model = Model.of(around, cond=lambda seed, places: {"mean": places.float()}, **spread)
    values = torch.rand(3, *SHAPE)
    expected = Model.of(denoised, **spread).log_density(values)
    found = model.log_density(values + torch.arange(3.0).view(-1, 1, 1, 1))
    # the prior is centered at 0, not at the mean m ≤ 2.2: at most m |z|/σ_max a dimension, z ≤ 3
    torch.testing.assert_close(found, expected, rtol=0, atol=16 * 2.2 * 3 / 1000 + 0.05)
