"""Consistency tuning: the minimum of its loss is the end of the probability flow; samples take few evaluations."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from PIL import Image
from torch import Tensor

import ncsnx
from ncsnx.config import Consistency, CosineDecay, Experiment, Heun, InverseSqrtDecay, Karras, NCSNv2
from ncsnx.config.checks import FieldError
from ncsnx.config.discovery import resolve
from ncsnx.errors import NcsnxError
from ncsnx.evaluation.comparison import comparison_candidates
from ncsnx.runs.folder import Run
from ncsnx.runs.names import step_name
from ncsnx.samplers.building import build_sampler
from ncsnx.sampling.consistency import is_multistep, multistep, tuned_candidates
from ncsnx.space import Space
from ncsnx.training.losses import build_loss
from tests.samplers.toy import Mixture, scaled
from tests.training.tiny import command, training

MEAN, DEVIATION = 0.3, 0.5
TOP, LAST = 10.0, 0.5
BIMODAL = Mixture((0.3, 0.7), (-0.8, 0.6), (0.1, 0.15))


def experiment_of(**fields: Any) -> Experiment:
    """digits_edm, tuned."""
    loss = Consistency(**{"halve_every": 100, **fields})
    return attrs.evolve(resolve("digits_edm").experiment, loss=loss)


def loss_of(experiment: Experiment) -> Any:
    return build_loss(experiment, Space.unmeasured(experiment.data))


def flow_end(x: Tensor, sigma: Tensor) -> Tensor:
    """The end of the probability flow of N(MEAN, DEVIATION²) from (x, σ)."""
    return MEAN + (x - MEAN) * DEVIATION / (DEVIATION**2 + sigma**2).sqrt()


def drawn(config: Any, end: Any, count: int = 200_000) -> Tensor:
    """Pixels that multistep sampling draws with an exact consistency function, from N(0, σ_1²)."""
    generator = torch.Generator().manual_seed(3)

    def normal(k: int = 0) -> Tensor:
        return torch.randn(count, 1, 1, 1, generator=generator, dtype=torch.float64)

    model = scaled(lambda x, sigma: (end(x, torch.as_tensor(sigma)) - x) / torch.as_tensor(sigma) ** 2)
    *_, last = build_sampler(config)(model, TOP * normal(), (TOP, 0.02), noise=normal)
    assert last.evaluations == config.steps
    return last.x.flatten()


@pytest.mark.parametrize("steps", [1, 2])
def test_gaussian_data_gets_the_mean_and_the_variance_of_multistep_sampling(steps: int) -> None:
    shrink = DEVIATION / math.hypot(DEVIATION, TOP)
    mean, variance = MEAN * (1 - shrink), (TOP * shrink) ** 2
    if steps == 2:
        shrink = DEVIATION / math.hypot(DEVIATION, LAST)
        mean, variance = MEAN + shrink * (mean - MEAN), shrink**2 * (variance + LAST**2)
    values = drawn(multistep(steps, LAST), flow_end)
    # five standard errors of 200,000 values
    assert float(values.mean()) == pytest.approx(mean, abs=5 * math.sqrt(variance / 200_000))
    assert float(values.var()) == pytest.approx(variance, rel=5 * math.sqrt(2 / 200_000))


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_mixture_keeps_its_weights(steps: int) -> None:
    def end(x: Tensor, sigma: Tensor) -> Tensor:
        levels = torch.cat([torch.logspace(math.log10(float(sigma.flatten()[0])), -3, 300), torch.zeros(1)])
        for high, low in pairwise(levels):
            slope = -high * BIMODAL.score(x, high)
            ahead = x + (low - high) * slope
            if low > 0:
                slope = (slope - low * BIMODAL.score(ahead, low)) / 2
            x = x + (low - high) * slope
        return x

    values = drawn(multistep(steps, LAST), end, count=20_000)
    assert float((values < 0).double().mean()) == pytest.approx(0.3, abs=0.03)


class Shrinking:
    """D(x, σ) = MEAN + a(σ) (x − MEAN) with a(σ) linear between knots in ln σ."""

    def __init__(self) -> None:
        self.knots = torch.linspace(math.log(0.01), math.log(20), 25)
        self.values = (DEVIATION**2 / (DEVIATION**2 + self.knots.exp() ** 2)).requires_grad_()  # the score network's

    def factor(self, sigma: Tensor) -> Tensor:
        step = self.knots[1] - self.knots[0]
        hats = (1 - (sigma.log().clamp(self.knots[0], self.knots[-1])[:, None] - self.knots).abs() / step).clamp(min=0)
        return hats @ self.values

    def scaled_score(self, x: Tensor, sigma: Tensor, cond: object) -> Tensor:
        each = sigma.view(-1, 1, 1, 1)
        return (MEAN + self.factor(sigma).view(-1, 1, 1, 1) * (x - MEAN) - x) / each


def test_training_turns_the_mean_into_the_end_of_the_flow() -> None:
    network, generator = Shrinking(), torch.Generator().manual_seed(5)
    loss = loss_of(experiment_of(halvings=5, halve_every=150))
    optimizer = torch.optim.Adam([network.values], lr=0.003)
    for step in range(1_000):
        optimizer.param_groups[0]["lr"] = 0.003 * (1 - step / 1_000)
        x, noise = torch.randn(2, 2_048, 1, 4, 4, generator=generator)
        sigma = torch.empty(2_048).uniform_(math.log(0.02), math.log(10), generator=generator).exp()
        optimizer.zero_grad()
        loss(network, MEAN + DEVIATION * x, sigma, noise, {}, step).mean().backward()
        optimizer.step()
    sigma = torch.tensor([0.1, 0.3, 1.0, 3.0])
    exact, before = DEVIATION / (DEVIATION**2 + sigma**2).sqrt(), DEVIATION**2 / (DEVIATION**2 + sigma**2)
    found = network.factor(sigma).detach()
    # 1 − r/σ is 0.02 to 0.08 in the end, which is the relative error that a first-order method makes
    assert found.tolist() == pytest.approx(exact.tolist(), rel=0.1)
    assert (before / exact - 1).abs().max() > 0.5  # a loss that changes nothing fails


class Recorder:
    """A network that records what it is given."""

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, Tensor, Any, bool]] = []

    def scaled_score(self, x: Tensor, sigma: Tensor, cond: object) -> Tensor:
        self.calls.append((x, sigma, cond, torch.is_grad_enabled()))
        return torch.zeros_like(x)


@pytest.mark.parametrize(("step", "halvings"), [(0, 0), (99, 0), (100, 1), (250, 2), (10_000, 8), (None, 8)])
def test_teacher_and_student_share_noise_and_masks_and_come_nearer(step: int | None, halvings: int) -> None:
    network, cond = Recorder(), {"mask": torch.ones(3)}
    x, noise, sigma = torch.zeros(3, 1, 8, 8), torch.ones(3, 1, 8, 8), torch.tensor([0.021, 0.5, 8.0])
    loss_of(experiment_of())(network, x, sigma, noise, cond, step)
    (teacher_x, r, teacher_cond, teaches), (student_x, student_sigma, student_cond, learns) = network.calls
    assert teacher_cond is student_cond is cond
    assert (teaches, learns) == (False, True)
    assert student_sigma.equal(sigma)
    assert student_x[:, 0, 0, 0].equal(sigma)
    assert teacher_x[:, 0, 0, 0].equal(r)
    rest = [(1 + 8 / (1 + math.exp(one))) / 2 ** (halvings + 1) for one in sigma.tolist()]
    expected = [one * (1 - part) for one, part in zip(sigma.tolist(), rest, strict=True)]
    ended = [one if one >= 0.02 else math.nan for one in expected]  # there the target is the image
    for found, wanted in zip(r.tolist(), ended, strict=True):
        assert math.isnan(wanted) or found == pytest.approx(wanted, rel=1e-5)


def test_the_target_at_small_noise_is_the_image() -> None:
    x = torch.rand(2, 1, 8, 8)
    losses = loss_of(experiment_of(huber=0.0))(Recorder(), x, torch.tensor([0.02, 0.03]), torch.ones_like(x), {}, 0)
    # D(x + σz) = x + σz, so the distance is σ √64, and the weight 1/σ
    assert losses.tolist() == pytest.approx([8.0, 8.0], rel=1e-4)


def test_the_halvings_divide_the_steps_of_the_decay() -> None:
    tuned = attrs.evolve(experiment_of(halve_every=None, halvings=4), decay=CosineDecay(steps=500))
    network, x = Recorder(), torch.zeros(1, 1, 8, 8)
    for step in (99, 100):
        loss_of(tuned)(network, x, torch.tensor([8.0]), x, {}, step)
    rest = [1 - float(call[1]) / 8 for call in network.calls[::2]]
    assert rest[0] == pytest.approx(2 * rest[1], rel=1e-3)
    for decay in (None, InverseSqrtDecay(steps=500)):
        with pytest.raises(FieldError, match=r"needs loss\.halve_every, or decay=cosine"):
            attrs.evolve(tuned, decay=decay)


def test_it_refuses_networks_of_trained_levels_and_noisy_images() -> None:
    experiment = resolve("cifar10_ncsn").experiment
    with pytest.raises(FieldError, match="takes any σ"):
        attrs.evolve(experiment, loss=Consistency())
    with pytest.raises(FieldError, match="clean images"):
        attrs.evolve(experiment_of(), data=attrs.evolve(experiment_of().data, noise=0.1))


def test_compare_tries_one_to_three_evaluations_with_the_classes_of_the_model() -> None:
    by_class = attrs.evolve(multistep(2, LAST), classes=("3",))
    experiment = attrs.evolve(experiment_of(), sampler=by_class)
    tried = comparison_candidates(experiment)
    assert tried[0] == by_class
    assert all(is_multistep(one) and one.classes == ("3",) for one in tried)
    assert {getattr(one, "steps", 0) for one in tried} == {1, 2, 3}
    few = comparison_candidates(experiment, counts=[1], guidance=[1, 2])[1:]
    assert [(getattr(one, "steps", 0), one.guidance) for one in few] == [(1, 1), (1, 2)]


def test_a_sampler_that_follows_the_flow_is_not_multistep_sampling() -> None:
    assert not is_multistep(attrs.evolve(multistep(2, LAST), eta_min=5.0))


def tuning(*changes: str) -> list[str]:
    """The command that tunes, without the fields of the tiny experiment's sampler."""
    typed = training("loss=consistency", "loss.halve_every=2", *changes)
    return [word for word in typed if not word.startswith("sampler") or word in changes]


@pytest.fixture(scope="module")
def tuned(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs/fast, tuned in 8 steps from the tiny run."""
    folder = tmp_path_factory.mktemp("tuned")
    typed = tuning("snapshots=none", "steps=8")
    command(*typed, "--from", str(trained / "runs" / "digits"), "--run", "fast", folder=folder).done()
    return folder


def test_a_tuned_run_has_the_sampler_of_two_evaluations(tuned: Path) -> None:
    experiment = Run(tuned / "runs" / "fast").experiment()
    assert isinstance(experiment.model, NCSNv2)
    assert experiment.sampler == multistep(2, 0.25)  # of data in [0, 1]
    assert experiment.sampler.grid == Karras(sigma_min=0.25)
    shown = command("show", "runs/fast", "--origins", folder=tuned).done().out
    assert "loss=consistency" in shown
    assert command("sample", "fast", "--n", "2", folder=tuned).code == 0


def test_a_resumed_one_ends_with_the_same_bits(tuned: Path, trained: Path) -> None:
    for steps in (5, 8):
        typed = tuning("snapshots=none", f"steps={steps}")
        command(*typed, "--from", str(trained / "runs" / "digits"), "--run", "again", folder=tuned).done()
    for part in ("model", "ema", "optimizer"):
        file = f"checkpoints/{step_name(8)}/{part}.safetensors"
        assert (tuned / "runs/again" / file).read_bytes() == (tuned / "runs/fast" / file).read_bytes()


def test_without_a_trained_network_it_says_what_to_type(tmp_path: Path) -> None:
    result = command(*training("loss=consistency", "loss.halve_every=2"), folder=tmp_path)
    assert result.code == 2
    assert "loss=consistency tunes a network that is trained already" in result.err
    assert "--from RUN" in result.err
    assert not (tmp_path / "runs" / "digits").exists()


def test_the_sampler_follows_from_the_weights_and_no_grid_is_drawn_by_a_solver(trained: Path, tmp_path: Path) -> None:
    source = str(trained / "runs" / "digits")
    kept = [word for word in tuning("steps=1", "sampler.denoise=false") if not word.startswith("snapshots")]
    told = command(*kept, "--from", source, "--run", "typed", folder=tmp_path)
    assert told.code == 2
    assert "name the sampler of loss=consistency too" in told.err
    kept.remove("sampler.denoise=false")
    command(*kept, "--from", source, "--run", "grids", folder=tmp_path).done()
    experiment = Run(tmp_path / "runs" / "grids").experiment()
    assert resolve("digits").experiment.snapshots.sampler is not None  # type: ignore[union-attr]
    assert experiment.snapshots is not None
    assert experiment.snapshots.sampler is None
    rescaled = attrs.evolve(experiment, data=attrs.evolve(experiment.data, transform="rescaled"))
    assert tuned_candidates(experiment)[0] == multistep(2, 0.25)
    assert tuned_candidates(rescaled)[0] == multistep(2, 0.5)
    with_heun = attrs.evolve(experiment, name="heun", sampler=Heun(steps=2), steps=1, initial_weights=None)
    told = []
    ncsnx.train(
        with_heun, start=trained / "runs" / "digits", runs=tmp_path / "runs", work=ncsnx.Work(warning=told.append)
    )
    assert any("this sampler needs a score network" in text for text in told)


def test_a_source_that_cannot_be_tuned_is_refused_in_a_sentence(tmp_path: Path) -> None:
    small = ("snapshots=none", "steps=1", "checkpoint_every=1")
    command(*training(*small, "model=ncsn", "model.width=4"), "--run", "ncsn", folder=tmp_path).done()
    result = command(*tuning(*small), "--from", "ncsn", "--run", "fast", folder=tmp_path)
    assert (result.code, "Traceback" in result.err) == (2, False)
    assert "with the weights of runs/ncsn, loss: needs a network that takes any σ" in result.err
    noisy = ("data.noise=0.05", "schedule.sigma_min=0.05")
    command(*training(*small, *noisy), "--run", "noisy", folder=tmp_path).done()
    result = command(*tuning(*small), "--from", "noisy", "--run", "fast", folder=tmp_path)
    assert result.code == 1
    assert "learned from noisy images, and knows no σ below 0.05" in result.err
    undecided = [word for word in tuning(*small) if not word.startswith("loss.halve_every")]
    assert command(*undecided, "--from", "ncsn", "--run", "fast", folder=tmp_path).code == 2
    assert not (tmp_path / "runs" / "fast").exists()


def test_a_tuned_network_draws_one_sample_of_a_noisy_picture_and_says_so(tuned: Path) -> None:
    Image.new("L", (8, 8), 90).save(tuned / "noisy.png")
    restore = ("restore", "fast", "--denoise", "noisy.png", "--noise", "0.1")
    result = command(*restore, folder=tuned).done()
    assert "draws a sample in one evaluation, not the mean" in result.err
    (images,) = (tuned / "runs" / "fast" / "samples").glob("*denoise*/images")
    assert len(list(images.iterdir())) == 1
    for words, said in (
        (("--n", "4"), "gives one image for a noisy picture"),
        (("--n", "0"), "by score networks that know any noise"),
        (("sampler=heun",), "sampler: a network that was tuned for consistency denoises in one step"),
        (("--noise", "1e-4"), "this model knows noise from 0.01"),
    ):
        told = command(*restore, *words, folder=tuned)
        assert said in " ".join(told.err.split())
        assert told.code == 2
    with refused("needs a score network"):
        ncsnx.restore(tuned / "runs" / "fast", inpaint=tuned / "noisy.png", mask=(0, 0, 3, 3), progress=False)
    with refused("a likelihood needs a score network"):
        ncsnx.load(tuned / "runs" / "fast").log_density(torch.zeros(1, 1, 8, 8))
    with refused("a denoiser gives means, which need a score network"):
        ncsnx.load(tuned / "runs" / "fast").as_denoiser()
    assert "a likelihood needs a score network" in command("likelihood", "fast", "--n", "2", folder=tuned).err


def test_another_sampler_is_warned_of(tuned: Path) -> None:
    result = command("sample", "fast", "sampler=heun", "--n", "1", "--out", "heun", folder=tuned).done()
    assert "sampler=cas sampler.order=1 sampler.eta=1" in result.err


def refused(words: str) -> Any:
    return pytest.raises(NcsnxError, match=words)


def test_the_card_of_a_tuned_model_does_not_call_it_a_score_network(tuned: Path) -> None:
    command("loss", "fast", folder=tuned).done()
    command("export", "fast", "--out", "shared", "--grid", "0", "--license", "mit", folder=tuned).done()
    card = (tuned / "shared" / "README.md").read_text()
    assert "A network tuned for consistency" in card
    assert "2310.14189" in card
    assert "model.denoise(" in card
    for wrong in ("score network", "model.score", "denoising_score_matching_loss"):
        assert wrong not in card
