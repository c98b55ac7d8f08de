"""The U-Net and its preconditioning, against the equations as transcribed here."""

import math
from pathlib import Path

import attrs
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ncsnx.config import Augmentation, CosineDecay, Digits, InverseSqrtDecay, LogNormal, ScoreMatching, UNet
from ncsnx.config.checks import FieldError
from ncsnx.data import open_data
from ncsnx.data.augmentation import LABELS
from ncsnx.data.value_statistics import measured_space
from ncsnx.errors import NcsnxError
from ncsnx.networks import Network, prepare
from ncsnx.networks.execution import Execution
from ncsnx.networks.unet import Attention, group_norm
from ncsnx.randomness import Purpose, Stream
from ncsnx.samplers.state import score_of
from ncsnx.space import Space
from ncsnx.training.losses import draw_sigmas, loss_weight, score_matching_loss
from ncsnx.training.optimizers import learning_rate
from ncsnx.work import SILENT
from tests.config.examples import minimal
from tests.golden_networks import TOLERANCE, relative_error
from tests.spaces import space_of, untrained

MODEL = UNet(width=8, multipliers=(1, 2), blocks=1, attention=(4,))
SIGMA_DATA = 0.8


def network(model: UNet = MODEL, **data: object) -> Network:
    """A network whose tensors are all drawn, those that start at 0 too."""
    digits = Digits(sigma_data=SIGMA_DATA, **data)  # type: ignore[arg-type]
    made = untrained(attrs.evolve(minimal(), data=digits, model=model)).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return made.eval()


def images(count: int = 3) -> Tensor:
    return torch.rand((count, 1, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def transcribed(weights: dict[str, Tensor], x: Tensor, sigma: float) -> Tensor:
    """D(x; σ) of Karras et al. 2022, equation 7 and table 1, of MODEL on 8 px, from the names of its weights alone."""

    def normalized(name: str, h: Tensor) -> Tensor:
        groups = max(1, h.shape[1] // 4)
        split = h.reshape(len(h), groups, -1)
        mean, variance = split.mean(dim=2, keepdim=True), split.var(dim=2, keepdim=True, correction=0)
        h = ((split - mean) / (variance + 1e-6).sqrt()).reshape(h.shape)
        return h * weights[f"{name}.factors.gamma"].view(1, -1, 1, 1) + weights[f"{name}.factors.beta"].view(
            1, -1, 1, 1
        )

    def convolved(name: str, h: Tensor, padding: int = 1) -> Tensor:
        return F.conv2d(h, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=padding)

    def swish(h: Tensor) -> Tensor:
        return h / (1 + (-h).exp())

    def linear(name: str, h: Tensor) -> Tensor:
        return h @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def block(name: str, h: Tensor, resampled: str = "") -> Tensor:
        def resample(h: Tensor) -> Tensor:
            if resampled == "down":
                return (h[..., ::2, ::2] + h[..., 1::2, ::2] + h[..., ::2, 1::2] + h[..., 1::2, 1::2]) / 4
            return h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3) if resampled == "up" else h

        inner = convolved(f"{name}.conv1", resample(swish(normalized(f"{name}.norm1", h))))
        inner = inner + linear(f"{name}.bias", embedded)[:, :, None, None]
        inner = convolved(f"{name}.conv2", swish(normalized(f"{name}.norm2", inner)))
        shortcut = resample(h)
        if f"{name}.shortcut.weight" in weights:
            shortcut = convolved(f"{name}.shortcut", shortcut, 0)
        h = (inner + shortcut) / math.sqrt(2)
        return attended(f"{name}.attention", h) if f"{name}.attention.end.weight" in weights else h

    def attended(name: str, h: Tensor) -> Tensor:
        query, key, value = convolved(f"{name}.projections", normalized(f"{name}.norm", h), 0).flatten(2).chunk(3, 1)
        weight = torch.softmax(torch.einsum("bcq,bck->bqk", query, key) / math.sqrt(h.shape[1]), dim=2)
        mixed = torch.einsum("bqk,bck->bcq", weight, value).reshape(h.shape)
        return (h + convolved(f"{name}.end", mixed, 0)) / math.sqrt(2)

    noise = torch.tensor(0.25 * math.log(sigma * 0.5 / SIGMA_DATA), dtype=torch.float64)
    frequencies = torch.tensor([10_000 ** (-k / 3) for k in range(4)], dtype=torch.float64)
    features = torch.cat([torch.sin(noise * frequencies), torch.cos(noise * frequencies)])[None]
    embedded = swish(linear("embedding.second", swish(linear("embedding.first", features))))

    total = sigma**2 + SIGMA_DATA**2
    skip, out = SIGMA_DATA**2 / total, sigma * SIGMA_DATA / math.sqrt(total)
    centered = x - 0.5
    kept = [convolved("begin", centered / math.sqrt(total))]
    for number, resampled in enumerate(("", "down", "")):
        kept.append(block(f"down.{number}", kept[-1], resampled))
    h = block("middle.1", block("middle.0", kept[-1]))
    for number, resampled in enumerate(("", "", "up", "", "")):
        h = block(f"up.{number}", h if resampled else torch.cat([h, kept.pop()], dim=1), resampled)
    return 0.5 + skip * centered + out * convolved("end", swish(normalized("norm", h)))


@pytest.mark.parametrize("sigma", [0.01, 1.0, 50.0])
@torch.no_grad()
def test_the_denoiser_is_that_of_the_paper(sigma: float) -> None:
    made, x = network(), images()
    expected = transcribed(dict(made.state_dict()), x, sigma)
    assert relative_error(x + sigma**2 * score_of(made.scaled_score, x, sigma), expected) < TOLERANCE


@torch.no_grad()
def test_without_preconditioning_the_network_is_the_score_times_sigma() -> None:
    plain, x = network(attrs.evolve(MODEL, preconditioning="none")), images()
    embedded = plain.embedding(torch.full((len(x),), 0.25 * math.log(0.5 * 0.3 / SIGMA_DATA)), None)  # type: ignore[operator]
    expected = plain.body(x - 0.5, embedded) / 0.3  # type: ignore[operator]
    assert relative_error(score_of(plain.scaled_score, x, 0.3), expected) < TOLERANCE


def test_attention_is_at_the_sizes_that_are_named_and_in_the_middle() -> None:
    def attending(*attention: int) -> set[str]:
        made = network(UNet(width=8, multipliers=(1, 2, 2), blocks=1, attention=attention))
        return {name.rpartition(".")[0] for name, module in made.named_modules() if isinstance(module, Attention)}

    assert attending() == set()
    assert attending(4) == {"down.2", "middle.0", "up.4"}
    with pytest.raises(NcsnxError, match=r"^model.attention=16: .* shorter sides of 8, 4, 2 px;"):
        attending(16, 4)


def test_attention_can_run_in_a_fused_kernel() -> None:
    x = torch.rand(2, 32, 4, 4)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        for image in (x, x.to(memory_format=torch.channels_last)):
            assert Attention(32, group_norm)(image).shape == x.shape


@torch.no_grad()
def test_dropout_keeps_a_share_of_values_that_depends_on_the_position_alone() -> None:
    made, positions = network(attrs.evolve(MODEL, dropout=0.25)), torch.arange(200)
    masks = list(made.training_cond(positions, None).values())
    assert len(masks) == len([*made.down, *made.middle, *made.up])  # type: ignore[misc]
    values = torch.cat([mask.flatten() for mask in masks]).float()
    assert values.mean() == pytest.approx(0.75, abs=5 * math.sqrt(0.25 * 0.75 / len(values)))
    some = made.training_cond(positions[5:9], None).values()
    assert all(torch.equal(one[5:9], other) for one, other in zip(masks, some, strict=True))
    assert len({mask.shape for mask in masks}) < len({mask.numpy().tobytes() for mask in masks}) == len(masks)


@torch.no_grad()
def test_dropout_sets_values_to_zero_and_enlarges_the_others() -> None:
    block = network(attrs.evolve(MODEL, dropout=0.25)).middle[0]  # type: ignore[index]
    x, embedded = torch.randn(2, 16, 4, 4, dtype=torch.float64), torch.randn(2, 32, dtype=torch.float64)
    kept = torch.rand(2, 16, 4, 4) < 0.75
    before = list[Tensor]()
    hook = block.conv2.register_forward_pre_hook(lambda module, given: before.append(given[0]))
    block(x, embedded)
    block(x, embedded, kept)
    hook.remove()
    torch.testing.assert_close(before[1], torch.where(kept, before[0] / 0.75, 0))


def test_labels_of_augmentation_change_the_score_only_where_they_are_not_zero() -> None:
    digits = Digits(sigma_data=SIGMA_DATA)
    made = untrained(attrs.evolve(minimal(), data=digits, model=MODEL, augmentation=Augmentation()))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    x, sigma = images().float(), torch.full((3,), 0.5)
    plain, unlabeled = made.scaled_score(x, sigma), made.scaled_score(x, sigma, {"labels": torch.zeros(3, LABELS)})
    assert torch.equal(plain, unlabeled)
    assert (made.scaled_score(x, sigma, {"labels": torch.eye(3, LABELS)}) - plain).flatten(1).abs().amax(
        dim=1
    ).min() > 1e-3


@torch.no_grad()
def test_each_image_may_have_its_own_sigma() -> None:
    made, x, sigma = network(), images(), torch.tensor([0.1, 2.0, 30.0], dtype=torch.float64)
    scores = score_of(made.scaled_score, x, sigma.view(-1, 1, 1, 1))
    for image, one, score in zip(x, sigma.tolist(), scores, strict=True):
        assert relative_error(score[None], score_of(made.scaled_score, image[None], one)) < 1e-9
    assert relative_error(made.scaled_score(x, sigma), sigma.view(-1, 1, 1, 1) * scores) < 1e-9


@torch.no_grad()
def test_an_untrained_network_denoises_gaussian_data_of_that_size() -> None:
    made = untrained(attrs.evolve(minimal(), data=Digits(sigma_data=SIGMA_DATA), model=MODEL))
    x = images().float()
    for sigma in (1e-4, 0.5, 1e4):
        expected = 0.5 + (x - 0.5) / (1 + (sigma / SIGMA_DATA) ** 2)
        assert relative_error(x + sigma**2 * score_of(made.scaled_score, x, sigma), expected) < 1e-4


def test_gradients_reach_every_parameter() -> None:
    made, x = network(UNet(width=8, multipliers=(1, 2), blocks=1, attention=(4,), embedding="fourier")), images()
    sigma = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    loss = score_matching_loss(made, x, sigma, torch.randn_like(x)).sum()
    gradients = torch.autograd.grad(loss, list(made.parameters()))
    assert all(gradient.abs().max() > 0 for gradient in gradients)


@pytest.mark.parametrize("attention", [(4,), ()])
@torch.no_grad()
def test_images_of_any_size_that_the_stages_can_halve_have_a_score(attention: tuple[int, ...]) -> None:
    made = network(attrs.evolve(MODEL, attention=attention))
    x = torch.rand(2, 1, 12, 6, dtype=torch.float64)
    assert score_of(made.scaled_score, x, 1.0).shape == x.shape
    with pytest.raises(NcsnxError, match=r"multiple of 2, since it halves the image 1 time; found 9×8"):
        made.require_size(9, 8)


@pytest.mark.parametrize("normalization", ["pixel", "group"])
@torch.no_grad()
def test_a_part_of_a_picture_is_denoised_as_in_the_whole_one_with_normalization_by_pixel(normalization: str) -> None:
    made = network(UNet(width=8, multipliers=(1, 1), blocks=1, attention=(), normalization=normalization))  # type: ignore[arg-type]
    picture = torch.randn((1, 1, 96, 96), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    whole, part = (score_of(made.scaled_score, x, 1.0) for x in (picture, picture[..., 8:88, 8:88]))
    # 38 px from the sides: its 17 convolutions see 36 px, twice as far on halved images
    difference = relative_error(part[..., 38:42, 38:42], whole[..., 46:50, 46:50])
    assert difference < 1e-12 if normalization == "pixel" else difference > 1e-4


@torch.no_grad()
def test_channels_last_and_bf16_change_a_score_by_rounding() -> None:
    made, x = network().float(), images().float()
    expected = score_of(made.scaled_score, x, 1.0)
    assert (
        relative_error(
            score_of(prepare(made, Execution(memory_format="channels_last", fused=True)).scaled_score, x, 1.0), expected
        )
        < 1e-5
    )
    rounded = score_of(prepare(made, Execution(memory_format="channels_last", precision="bf16")).scaled_score, x, 1.0)
    assert 0 < relative_error(rounded, expected) < 0.02


@torch.no_grad()
def test_the_edm_weighting_is_that_of_the_paper_on_the_denoiser() -> None:
    experiment = attrs.evolve(
        minimal(), data=Digits(sigma_data=SIGMA_DATA), model=MODEL, loss=ScoreMatching(weighting="edm")
    )
    made, x = network(), images()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    sigma = torch.tensor([0.05, 1.0, 20.0], dtype=torch.float64)
    each = sigma.view(-1, 1, 1, 1)
    noisy = x + each * noise
    denoised = noisy + each**2 * score_of(made.scaled_score, noisy, each)
    weight = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
    expected = weight * (denoised - x).square().flatten(1).sum(dim=1)
    assert (
        relative_error(
            score_matching_loss(made, x, sigma, noise, weight=loss_weight(experiment, space_of(experiment.data))),
            expected,
        )
        < 1e-9
    )


def test_sigma_in_training_is_log_normal_and_that_of_a_position() -> None:
    schedule = LogNormal(sigma_max=10.0, levels=4, p_mean=-1.0, p_std=1.1)
    assert schedule.in_words.startswith("ln σ ~ N(-1, 1.1²); held-out losses and samples at σ 10 →")
    stream, positions = Stream(5, Purpose.NOISE_LEVEL), torch.arange(20_000)
    logs = draw_sigmas(schedule, torch.ones(4), stream, positions).double().log()
    # standard errors of mean and standard deviation: 1.1/√20,000 = 0.0078 and 0.0055; five of them
    assert float(logs.mean()) == pytest.approx(-1.0, abs=0.039)
    assert float(logs.std()) == pytest.approx(1.1, abs=0.028)
    assert torch.equal(draw_sigmas(schedule, torch.ones(4), stream, positions[7:9]).double().log(), logs[7:9])


def test_sigma_data_is_the_root_mean_square_around_the_middle_of_the_range() -> None:
    splits = open_data(Digits(), Path())
    pixels = splits.train.read(torch.arange(len(splits.train))).pixels.double() / 16
    expected = float((pixels - 0.5).square().mean().sqrt())
    # of 1,024 of the 1,498 images, to four digits
    for transform, factor in (("none", 1), ("rescaled", 2)):
        experiment = attrs.evolve(minimal(), data=Digits(transform=transform))
        space = measured_space(experiment, splits, "digits", SILENT)
        assert space.sigma_data == pytest.approx(factor * expected, rel=0.01)


def test_an_experiment_whose_loss_needs_sigma_data_must_know_it() -> None:
    experiment = attrs.evolve(minimal(), loss=ScoreMatching(weighting="edm"))
    with pytest.raises(NcsnxError, match=r"root mean square .* is not known; give it: .*data\.sigma_data"):
        loss_weight(experiment, Space.of(experiment.data))
    loss_weight(experiment, Space.of(Digits(sigma_data=0.4)))
    loss_weight(minimal(), Space.of(experiment.data))


def test_the_edm_weighting_takes_no_power() -> None:
    with pytest.raises(FieldError, match="must be left out for weighting=edm, not 1"):
        ScoreMatching(weighting="edm", power=1.0)


def test_the_learning_rate_decays_as_declared() -> None:
    cosine, root = (
        attrs.evolve(minimal(), decay=decay) for decay in (CosineDecay(steps=100), InverseSqrtDecay(steps=100))
    )
    rates = [learning_rate(cosine, step) / cosine.optimizer.lr for step in (0, 50, 100, 200)]
    assert rates == pytest.approx([1, 0.5, 0, 0])
    assert [learning_rate(root, step) / root.optimizer.lr for step in (0, 100, 400)] == pytest.approx([1, 1, 0.5])
