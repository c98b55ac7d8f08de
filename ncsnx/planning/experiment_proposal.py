"""Proposes an experiment for given data: network by image size, noise levels from the plan, a sampler of few steps.

Batch size and steps follow Song & Ermon 2020 (arXiv 2006.09011, appendix B), published for 32 to 256 px. The network is
theirs, or a U-Net with the preconditioning and the loss of Karras et al. 2022 (arXiv 2206.00364).
"""

import math
from typing import Literal

import attrs

from ncsnx.config import (
    Adam,
    AnnealedLangevin,
    ConsistentAnnealed,
    CosineDecay,
    DPMSolverPP,
    Ema,
    Experiment,
    Geometric,
    Karras,
    LogNormal,
    NCSNv2,
    NCSNv2Deeper,
    NCSNv2Deepest,
    ScoreMatching,
    Snapshots,
    UNet,
)
from ncsnx.config.data_sets import Data, Images, OwnData, cuts_patches
from ncsnx.config.image_sizes import ImageSize, height_and_width, size_as_words, size_in_words, size_of_sides
from ncsnx.config.model import Model, RefineNetModel
from ncsnx.data.dataset import MOST_CLASSES
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.networks.layouts import DEEPER, DEEPEST, NCSNV2, NetworkLayout
from ncsnx.samplers.building import expected_evaluations
from ncsnx.schedules.techniques import NoisePlan
from ncsnx.spelling import parameter

Network = Literal["ncsnv2", "unet"]
"""The published network for images of a size, or the U-Net."""

SMALL_SET = 5_000
"""Number of training images below which a network is likely to memorize them."""
EPOCHS = 768
"""Epochs of the published CIFAR-10 training: 300,000 steps of 128 of 50,000 images."""
SNAPSHOT_SHARE = 0.1
"""Ratio of the time for grids of samples to the time for steps, which it may exceed by one grid."""
NARROW_BELOW = 32
"""Image size, in pixels, below which a network of width 32 is enough, as for the digits."""
UNET_UP_TO = 32
"""Largest image size, in pixels, for which the U-Net is proposed: at 8 px it was better (docs/project/networks.md), and
at 32 its published FID on CIFAR-10 is 1.97 (Karras et al. 2022), that of NCSNv2 10.87."""
MUCH_LARGER = 8
"""Ratio of the sides of pictures to those of images above which patches are suggested."""
DROPOUT_OF_NOISY = 0.1
"""Dropout for few noisy images, whose noise a network learns by heart (docs/project/noisy-images.md)."""
FEWEST_OF_CLASS = 100
"""Fewest training images of a class, on average, that a network is made conditional on."""
_NARROW_UNET = 32
"""Largest width of a U-Net with few blocks."""


def long_side(data: Data) -> int:
    """The longer of height and width, in pixels: what a network has to see decides which one is proposed."""
    return max(data.shape[1:])


def network_for(size: ImageSize) -> tuple[type[RefineNetModel], NetworkLayout]:
    """The network published for images of about this size in pixels, and its layout.

    The longer side decides, unless the shorter one can't be halved so often.
    """
    short, long = sorted(height_and_width(size))
    if long > 128 and short >= DEEPEST.smallest:
        return NCSNv2Deepest, DEEPEST
    return (NCSNv2Deeper, DEEPER) if long > 64 and short >= DEEPER.smallest else (NCSNv2, NCSNV2)


def fitting_size(size: ImageSize) -> ImageSize:
    """The largest size within `size` that its network accepts, but at least the network's smallest size."""
    _, layout = network_for(size)
    sides = [max(layout.smallest, side // layout.divisor * layout.divisor) for side in height_and_width(size)]
    return size_of_sides(sides)


def fitted_to_network(data: OwnData) -> OwnData:
    """The data set at the largest size that the networks accept; stored images are cropped to it.

    Raises NcsnxError if the images are too small for a network.
    """
    size = fitting_size(data.image_size)
    if size == data.image_size:
        return data
    if isinstance(data, Images):
        return attrs.evolve(data, image_size=size)
    if any(side > most for side, most in zip(height_and_width(size), data.stored_size, strict=True)):
        found, least = size_in_words(data.stored_size), size_in_words(size)
        raise NcsnxError(f"images of {found} pixels are too small: the networks need at least {least}")
    return attrs.evolve(data, image_size=size, random_crop=data.stored_size)


def check_size(size: ImageSize) -> None:
    """Raises UsageError for an image size that its network doesn't accept."""
    _, layout = network_for(size)
    if size != fitting_size(size):
        larger = size_of_sides([side + layout.divisor - 1 for side in height_and_width(size)])
        near = dict.fromkeys(map(size_as_words, (fitting_size(size), fitting_size(larger))))
        what = "a multiple" if isinstance(size, int) else "multiples"
        raise UsageError(
            f"{parameter('size')} {size_as_words(size)}: the network halves its images repeatedly, so it needs "
            f"{what} of {layout.divisor}, such as {' or '.join(near)}"
        )


def preferred_network(data: Data) -> Network:
    """The kind of network to propose for a data set. P_mean of the U-Net's training noise suits bounded data only.

    A model of patches gets it at every size, since it takes pictures of other sizes.
    """
    return "unet" if data.is_bounded and (cuts_patches(data) or long_side(data) <= UNET_UP_TO) else "ncsnv2"


def draft(
    name: str, data: Data, network: Network = "ncsnv2", *, width: int | None = None, batch_size: int = 128
) -> Experiment:
    """An experiment on unmeasured data; noise levels and steps are placeholders.

    width: width of the network, by default `usual_width`. With the U-Net, bounded images are in [−1, 1]. For patches it
    has no attention and normalizes each pixel, so that it takes whole pictures too, in tiles.
    """
    width = width or usual_width(long_side(data))
    model: Model = attrs.evolve(network_for(data.shape[1:])[0](), width=width)
    if network == "unet":
        unet = unet_for(data.shape[1:], width)
        model = attrs.evolve(unet, attention=(), normalization="pixel") if cuts_patches(data) else unet
        data = attrs.evolve(data, transform="rescaled") if data.is_bounded else data
    return Experiment(
        name=name,
        data=data,
        schedule=Geometric(sigma_max=1.0, levels=2),
        model=model,
        sampler=AnnealedLangevin(step_size=1e-6, steps_per_level=1),
        batch_size=batch_size,
        steps=1,
    )


def unet_for(size: ImageSize, width: int) -> UNet:
    """The U-Net for images of this size in pixels.

    Wide ones are the DDPM++ of Karras et al. 2022 (appendix F.2): channels (2, 2, 2) up to 32 px, (1, 2, 2, 2) for 64,
    attention at 16 or what is next below it. Narrow ones have few blocks and no attention, as for the digits.
    """
    is_narrow, sides, stages = width <= _NARROW_UNET, list(height_and_width(size)), 1
    while min(sides) > (4 if is_narrow else 8) and not any(side % 2 for side in sides):
        sides, stages = [side // 2 for side in sides], stages + 1
    if is_narrow:
        return UNet(width=width, multipliers=(2, 3, 3)[:stages] + (3,) * (stages - 3), blocks=1, attention=())
    first = 1 if stages > 3 else 2
    attention = tuple(side for stage in range(stages) if (side := min(sides) << stage) <= 16)[-1:]
    return UNet(width=width, multipliers=(first, *(2,) * (stages - 1)), attention=attention)


@attrs.frozen(kw_only=True)
class Scale:
    """Size of a training."""

    width: int
    batch_size: int
    steps: int


def usual_scale(data: Data, images: int) -> Scale:
    """The published scale for images of about this size, with fewer steps for small data sets."""
    size = long_side(data)
    batch = usual_batch(size, images)
    return Scale(width=usual_width(size), batch_size=batch, steps=usual_steps(size, images, batch))


def propose(
    name: str,
    data: Data,
    plan: NoisePlan,
    images: int,
    scale: Scale | None = None,
    network: Network = "ncsnv2",
    classes: int = 0,
) -> Experiment:
    """The proposed experiment for a data set of `images` training images. scale: by default `usual_scale`.

    classes: number of classes of the data; the U-Net is conditional on them, if each has enough images.
    """
    size, scale = long_side(data), scale or usual_scale(data, images)
    experiment = attrs.evolve(
        draft(name, data, network, width=scale.width, batch_size=scale.batch_size),
        schedule=Geometric(sigma_max=plan.sigma_max, sigma_min=plan.sigma_min, levels=plan.levels),
        optimizer=Adam(lr=_learning_rate(scale.width), eps=1e-3 if size > 128 else 1e-8),
        sampler=quick_sampler(plan.sigma_max, plan.sigma_min, is_noisy=data.is_noisy),
        ema=Ema(rate=_ema_rate(scale.steps)),
        steps=scale.steps,
        checkpoint_every=checkpoint_cadence(scale.steps),
    )
    if network == "unet":
        experiment = _preconditioned(experiment, plan)
        if 2 <= classes <= MOST_CLASSES and images >= FEWEST_OF_CLASS * classes and not cuts_patches(data):
            assert isinstance(experiment.model, UNet)
            experiment = attrs.evolve(experiment, model=attrs.evolve(experiment.model, classes=classes))
        if data.is_noisy and images < SMALL_SET:
            assert isinstance(experiment.model, UNet)
            experiment = attrs.evolve(experiment, model=attrs.evolve(experiment.model, dropout=DROPOUT_OF_NOISY))
    return attrs.evolve(experiment, snapshots=_affordable_snapshots(experiment))


def _affordable_snapshots(experiment: Experiment) -> Snapshots:
    """Grids of 36 samples, or 16, and so many checkpoints apart that they take about SNAPSHOT_SHARE of the steps' time.

    That is where a training image, forward and backward, takes the time of three evaluations.
    """
    trained = 3 * experiment.batch_size * experiment.checkpoint_every
    per_checkpoint = SNAPSHOT_SHARE * trained / expected_evaluations(experiment.sampler, experiment.schedule.levels)
    n = 36 if per_checkpoint >= 36 else 16
    return Snapshots(n=n, every=math.ceil(n / per_checkpoint))


def _preconditioned(experiment: Experiment, plan: NoisePlan) -> Experiment:
    """The experiment with noise, loss and sampler of Karras et al. 2022, and a learning rate that decays."""
    grid = Karras(sigma_max=plan.sigma_max, sigma_min=plan.sigma_min, rho=7.0)
    return attrs.evolve(
        experiment,
        schedule=LogNormal(sigma_max=plan.sigma_max, sigma_min=plan.sigma_min, levels=plan.levels),
        optimizer=Adam(lr=rounded(_UNET_RATE * experiment.optimizer.lr, 3)),
        decay=CosineDecay(steps=experiment.steps),
        loss=ScoreMatching(weighting="edm"),
        sampler=DPMSolverPP(steps=17, grid=grid),
        warmup_steps=experiment.steps // 20,
    )


def quick_sampler(sigma_max: float, sigma_min: float, *, is_noisy: bool = False) -> ConsistentAnnealed:
    """Second-order `cas` of 20 steps, mostly at small σ, over the range of levels where images take shape; for noisy
    images to the end of it."""
    high, low = rounded(sigma_max / 4, 3), sigma_min if is_noisy else 5 * sigma_min
    grid = Karras(rho=9.0, sigma_max=high, sigma_min=low) if high > 2 * low else Karras(rho=9.0)
    return ConsistentAnnealed(steps=20, grid=grid)


def published_sampler(plan: NoisePlan) -> AnnealedLangevin:
    """Annealed Langevin dynamics with the plan's steps."""
    return AnnealedLangevin(step_size=rounded(plan.step_size, 3), steps_per_level=plan.steps_per_level)


def checkpoint_cadence(steps: int) -> int:
    """Steps between checkpoints: 20 checkpoints in a training, but at least one every 5,000 steps."""
    return max(1, min(5_000, steps // 20))


_UNET_RATE = 3.0
"""Learning rate of the U-Net, relative to that of the published networks: 3e-3 at width 16 to 32 for the digits."""


def usual_width(size: int) -> int:
    """Default width: 128 as published; 32 below 32 px, as for the digits."""
    return 32 if size < NARROW_BELOW else 128


def _learning_rate(width: int) -> float:
    """Learning rate: as published for width 128, that of the digits up to 32, and in between for 64."""
    return 1e-3 if width <= 32 else 3e-4 if width <= 64 else 1e-4


def _ema_rate(steps: int) -> float:
    """EMA rate: as published for long trainings.

    In shorter ones the average covers at most a seventh of the steps, so that the initial weights fade from it.
    """
    rates = ((0.999, 10_000), (0.995, 1_500), (0.99, 700), (0.95, 140))
    return next((rate for rate, least in rates if steps >= least), 0.8)


def usual_batch(size: int, images: int) -> int:
    """Default batch size: 128 as published, 32 above 128 px; at most the largest power of two ≤ `images`."""
    return min(128 if size <= 128 else 32, 1 << (images.bit_length() - 1))


def usual_steps(size: int, images: int, batch: int) -> int:
    """Default steps: as published for the next larger size, but at most CIFAR-10's epochs, and at least 5,000."""
    published = ((32, 300_000), (64, 210_000), (96, 200_000), (128, 150_000))
    most = next((steps for pixels, steps in published if size <= pixels), 80_000)
    return max(5_000, min(most, int(rounded(EPOCHS * images / batch, 2))))


def rounded_up(value: float, digits: int) -> float:
    """A positive number rounded up to so many significant digits, since no distance may exceed σ_1."""
    near = rounded(value, digits)
    return near if near >= value else rounded(near + 10.0 ** (math.floor(math.log10(value)) - digits + 1), digits)


def rounded(value: float, digits: int) -> float:
    """A number rounded to so many significant digits."""
    return float(f"{value:.{digits - 1}e}")
