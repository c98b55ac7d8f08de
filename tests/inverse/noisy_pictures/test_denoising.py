"""Noisy pictures in the form in which their noise is white: gray ones and counts."""

from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import poisson
from torch import Tensor

import ncsnx
from ncsnx import Model
from ncsnx.config.sampler import DPMSolverPPSDE
from ncsnx.errors import UsageError
from ncsnx.inverse import Counted, GrayPicture, ShotNoise, Task, denoise
from ncsnx.inverse.operators.pixels import Identity
from ncsnx.inverse.restoring import FirstMeans, posterior_means, say_agreement
from ncsnx.inverse.task_record import PictureRecord, TaskRecord
from ncsnx.space import Space
from ncsnx.work import Work

SHAPE = (3, 2, 2)
LEVELS = (0.45, 0.6)
NOISE = 0.06


def gray_or_colored(x: Tensor, sigma: Tensor) -> Tensor:
    """D of pixels that are dark gray, light gray or, as often as both, colored around the middle: not Gaussian."""
    at = torch.tensor([[0.45] * 3, [0.6] * 3, [1.0, 0.5, 0.1], [0.1, 0.5, 1.0]])
    away = (x[:, None] - at.view(1, 4, 3, 1, 1)).square().sum(dim=2)
    weights = (-away / (2 * sigma.view(-1, 1, 1, 1) ** 2)).softmax(dim=1)
    return torch.einsum("bkhw,kc->bchw", weights, at)


@pytest.fixture
def model() -> Model:
    return Model.of(gray_or_colored, shape=SHAPE, ends=(0.0, 1.0), sigma_max=5.0, sigma_min=0.01)


@pytest.fixture
def gray() -> Task:
    """Gray pixels from 0.45 to 0.6, with noise."""
    y = torch.linspace(0.45, 0.6, 4).view(1, 1, 2, 2)
    return Task.of_measurement(GrayPicture(SHAPE), y, name="denoise", noise=NOISE)


def light(y: Tensor) -> Tensor:
    """The probability that a gray pixel is light, which has the value y with noise."""
    dark, bright = ((-((y - level) ** 2) / (2 * NOISE**2)).exp() for level in LEVELS)
    return bright / (dark + bright)


def test_a_gray_picture_is_the_posteriors_mean_up_to_colors_that_its_drawn_noise_allows(
    model: Model, gray: Task
) -> None:
    """With noise of √3 · 0.06 in the other directions, a color 0.64 away has a thousandth of the weight of its gray."""
    assert gray.sigma(model.space) == pytest.approx(NOISE * 3**0.5)
    y = torch.linspace(0.45, 0.6, 4).view(2, 2)
    expected = LEVELS[0] + (LEVELS[1] - LEVELS[0]) * light(y)
    found = posterior_means(gray, model)
    assert found is not None
    assert torch.equal(found[0, 0], found[0, 2])
    assert float((found[0, 0] - expected).abs().max()) < 0.01


@pytest.mark.parametrize("rule", ["reverse", "exact", "cg"])
def test_alternatives_of_a_gray_picture_are_gray(rule: str, model: Model, gray: Task) -> None:
    drawn = torch.Tensor(ncsnx.draw(model, 4, task=attrs.evolve(gray, rule=rule)))
    assert float((drawn[:, 0] - drawn[:, 1]).abs().max()) < 1e-6
    assert float((drawn[0] - drawn[1]).abs().max()) > 1e-3


def test_alternatives_of_a_gray_picture_are_as_often_light_as_the_posterior(model: Model, gray: Task) -> None:
    """Of 400 images the standard error of a share is at most 0.025."""
    drawn = torch.Tensor(ncsnx.draw(model, 400, task=gray, sampler=DPMSolverPPSDE(steps=40)))
    found = (drawn[:, 0] > 0.525).float().mean(dim=0)
    assert float((found - light(torch.linspace(0.45, 0.6, 4).view(2, 2))).abs().max()) < 0.08


@pytest.mark.parametrize(("gain", "read"), [(1 / 200, 0.01), (1 / 30, 0.02), (1e-6, 0.1), (0.02, 0.0)])
def test_counts_have_the_same_noise_everywhere_in_their_form_and_their_own_mean_behind_it(
    gain: float, read: float
) -> None:
    """Of 200,000 draws, the standard deviation has an error of 0.2 %; the transform itself is away by some 3 % at two
    counts. The mean has an error of at most 0.0004."""
    counted = Counted(Identity((1, 1, 200_000)), ShotNoise(gain, read))
    random = np.random.default_rng(0)
    for value in (0.1, 0.4, 0.9):
        y = gain * random.poisson(value / gain, 200_000) + read * random.normal(size=200_000)
        form = counted.shot.form(torch.from_numpy(y))
        assert float(form.std()) == pytest.approx(counted.shot.in_form, rel=0.04)
        mean = form.mean().view(1, 1, 1, 1)
        assert float(counted.finished(mean, mean)) == pytest.approx(value, abs=0.003)


def test_counts_in_gray_are_denoised_by_the_form_of_the_gray_picture(model: Model) -> None:
    counted = Counted(GrayPicture(SHAPE), ShotNoise(0.01, 0.05))
    y = torch.full((1, 4), 0.75)
    task = Task(name="denoise", operator=counted, values=counted.shot.form(y), noise=counted.shot.in_form)
    assert task.rule == "reverse"
    assert task.sigma(model.space) == pytest.approx(counted.shot.in_form * 3**0.5)
    noisy = counted.noisy(task.values, task.noise, lambda: torch.zeros(1, *SHAPE))
    torch.testing.assert_close(noisy.mean(dim=1).flatten(), counted.shot.form(y).flatten().float())
    found = counted.finished(noisy, task.values)
    # what has a mean like the form of 0.75 is 0.75 and ¼ of a count more
    torch.testing.assert_close(found, torch.full_like(found, 0.75), atol=0.004, rtol=0)


def test_noise_is_estimated_and_said_with_what_to_type(tmp_path: Path) -> None:
    space = Space.with_ends((3, 64, 64), (0.0, 1.0))
    noisy = 0.5 + 0.1 * np.random.default_rng(0).normal(size=(64, 64, 3))
    Image.fromarray((255 * noisy.clip(0, 1)).round().astype(np.uint8)).save(tmp_path / "colors.png")
    Image.fromarray((255 * noisy[..., 0].clip(0, 1)).round().astype(np.uint8)).save(tmp_path / "gray.png")
    Image.new("RGB", (64, 64), (200, 90, 40)).save(tmp_path / "flat.png")
    for name, kind in (("colors", Identity), ("gray", GrayPicture)):
        task = denoise(tmp_path / f"{name}.png", space)
        assert isinstance(task.operator, kind)
        assert task.noise == pytest.approx(0.1, rel=0.06)
        assert "of 255), estimated; if" in task.remarks[0]
    flat = denoise(tmp_path / "flat.png", space, least_noise=0.005)
    assert flat.noise == 0.005
    assert flat.remarks[0].startswith("noise: none to be seen")
    (tmp_path / "flat.png").unlink()
    with pytest.raises(UsageError, match=r"gray\.png is gray and colors\.png is colored"):
        denoise(tmp_path, space)


def test_shot_noise_is_found_where_the_variance_grows_with_the_value(tmp_path: Path) -> None:
    """Of numbers, which a picture of 8 bits would clip."""
    space = Space.with_ends((1, 128, 128), (0.0, 1.0))
    clean = np.linspace(0.1, 0.9, 128)[:, None] * np.ones((128, 128))
    random = np.random.default_rng(1)
    y = random.poisson(100 * clean) / 100 + 0.01 * random.normal(size=clean.shape)
    np.save(tmp_path / "counts.npy", y)
    task = denoise(tmp_path / "counts.npy", space)
    assert isinstance(task.operator, Counted)
    assert task.operator.shot.gain == pytest.approx(0.01, rel=0.25)
    assert "noise: variance" in task.remarks[0]
    said = denoise(tmp_path / "counts.npy", space, 0.01, 0.01)
    assert isinstance(said.operator, Counted)
    assert said.operator.shot == ShotNoise(0.01, 0.01)
    assert said.facts == {"gain": 0.01, "read_noise": 0.01}


@pytest.mark.parametrize(("gain", "read"), [(1 / 30, 0.02), (1 / 200, 0.01), (1 / 30, 0.1)])
@pytest.mark.parametrize("value", [0.0, 0.003, 0.1])
def test_the_exact_mean_of_the_form_of_few_photons_gives_their_number(gain: float, read: float, value: float) -> None:
    counted = Counted(Identity((1, 1, 1)), ShotNoise(gain, read))
    photons = np.arange(200)
    nodes, weights = np.polynomial.hermite_e.hermegauss(81)
    forms = counted.shot.form(torch.from_numpy(gain * photons[:, None] + read * nodes)).numpy()
    mean = poisson.pmf(photons, value / gain) @ forms @ weights / weights.sum()
    given = torch.full((1, 1, 1, 1), float(mean))
    assert float(counted.finished(given, given)) == pytest.approx(value, abs=0.0015)


@pytest.mark.parametrize(("gain", "read"), [(0.1, 0.4), (0.02, 0.0)])
def test_the_form_is_inverted_down_to_where_the_variance_ends(gain: float, read: float) -> None:
    """The least value is -r²/g - ⅜ g."""
    shot, least = ShotNoise(gain, read), -(read**2) / gain - 3 / 8 * gain
    values = least + torch.tensor([0.01 * gain, 0.1 * gain, 1.0], dtype=torch.float64)
    torch.testing.assert_close(shot.values(shot.form(values)), values)
    darker = shot.form(torch.tensor([least], dtype=torch.float64)) - 1
    assert float(shot.values(darker)) == pytest.approx(least)


def test_values_below_0_of_unbounded_data_stay_where_read_noise_explains_them() -> None:
    counted = Counted(Identity((1, 1, 4)), ShotNoise(0.1, 0.4), signed=True)
    x = torch.tensor([[[[-1.5, -0.8, -0.1, 1.0]]]])
    found = counted.finished(counted.shot.form(x), torch.zeros(1, 4))
    assert bool((found.diff() > 0).all())
    torch.testing.assert_close(found, x, rtol=0, atol=0.05)


def test_shot_noise_that_values_or_the_model_do_not_allow_is_refused(tmp_path: Path) -> None:
    unbounded = Space.with_ends((1, 64, 64), None)
    values = np.random.default_rng(0).normal(size=(64, 64))
    np.save(tmp_path / "centered.npy", values)
    with pytest.raises(UsageError, match=r"gain: values down to -\d.* would have a negative variance"):
        denoise(tmp_path / "centered.npy", unbounded, 0.1, 0.1)
    np.save(tmp_path / "counts.npy", np.full((64, 64), 0.5))
    bounded = Space.with_ends((1, 64, 64), (0.0, 1.0))
    with pytest.raises(UsageError, match=r"expected at most 1, .*for 60 counts at white: gain=0\.0167"):
        denoise(tmp_path / "counts.npy", bounded, None, 60.0)
    with pytest.raises(UsageError, match="cannot remove shot noise"):
        denoise(tmp_path / "counts.npy", bounded, None, 0.01, any_sigma=False)
    assert denoise(tmp_path / "counts.npy", bounded, None, 0.01).remarks == ("noise: variance 0.01 · value",)


def test_a_model_of_trained_levels_takes_estimated_shot_noise_as_white(tmp_path: Path) -> None:
    space = Space.with_ends((1, 128, 128), (0.0, 1.0))
    clean = np.linspace(0.1, 0.9, 128)[:, None] * np.ones((128, 128))
    np.save(tmp_path / "counts.npy", np.random.default_rng(1).poisson(100 * clean) / 100)
    assert isinstance(denoise(tmp_path / "counts.npy", space).operator, Counted)
    assert isinstance(denoise(tmp_path / "counts.npy", space, any_sigma=False).operator, Identity)


@pytest.fixture
def counts() -> Task:
    """A dark and a light pixel of few counts, in three channels."""
    counted = Counted(Identity(SHAPE), ShotNoise(0.02, 0.03))
    y = torch.tensor([0.1, 0.9]).repeat(1, 6)
    return Task(name="denoise", operator=counted, values=counted.shot.form(y), noise=counted.shot.in_form)


def test_the_difference_from_counts_is_in_their_values_and_its_ratio_in_the_form(counts: Task) -> None:
    x = torch.tensor([0.1, 0.7]).repeat(6).view(1, *SHAPE)
    largest, in_noise = counts.misfits(x)
    assert largest == pytest.approx(0.2, abs=1e-5)
    assert isinstance(counts.operator, Counted)
    away = counts.operator.shot.form(torch.tensor(0.9)) - counts.operator.shot.form(torch.tensor(0.7))
    assert in_noise == pytest.approx(float(away) / counts.operator.shot.in_form, rel=1e-5)
    assert counts.largest_noise == pytest.approx((0.02 + 0.03**2) ** 0.5)


def test_larger_shot_noise_is_suggested_with_its_gain(counts: Task) -> None:
    record = TaskRecord(
        task="denoise",
        misfit=0.5,
        in_noise=20.0,
        samples_sha256="",
        pictures=(PictureRecord(picture="0", images=(0, 4), distances={}),),
    )
    told: list[str] = []
    say_agreement(record, counts, Space.with_ends(SHAPE, (0.0, 1.0)), Work(warning=told.append))
    assert told[0].endswith("say how large:  gain=0.32 noise=0.12")


def test_frames_of_counts_show_their_values(model: Model, counts: Task, tmp_path: Path) -> None:
    found = ncsnx.restore(model, task=counts, n=1, frames=2, out=tmp_path / "out", progress=False)
    with Image.open(tmp_path / "out" / "frames" / "001.png") as frame, Image.open(found.images[0]) as image:
        last = np.asarray(frame)[2:-2:32, 2:-2:32].astype(int)  # enlarged, within a white edge
        assert np.abs(last - np.asarray(image)).max() <= 1


def test_a_function_with_further_inputs_draws_alternatives_of_a_noisy_picture(gray: Task, tmp_path: Path) -> None:
    def inputs(seed: int, places: Tensor) -> dict[str, Tensor]:
        return {"shift": torch.zeros(len(places))}

    def shifted(x: Tensor, sigma: Tensor, shift: Tensor) -> Tensor:
        return gray_or_colored(x, sigma) + shift.view(-1, 1, 1, 1)

    model = Model.of(shifted, shape=SHAPE, ends=(0.0, 1.0), sigma_max=5.0, sigma_min=0.01, cond=inputs)
    found = ncsnx.restore(model, task=gray, out=tmp_path / "out", progress=False)
    assert len(found.images) == 4
    assert bool(torch.Tensor(found.means()).isfinite().all())


def test_the_time_of_alternatives_is_not_that_of_warming_up(
    model: Model, gray: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FirstMeans, "_seconds_of_evaluation", lambda _: 3.0)
    told: list[str] = []
    ncsnx.restore(model, task=gray, out=tmp_path / "out", work=Work(info=told.append))
    assert any("4 alternatives take about 4 min" in line for line in told)
