"""An experiment: everything that determines a trained network, and how it is trained, monitored and sampled."""

from typing import Literal

import attrs

from ncsnx.config import checks
from ncsnx.config.data_sets import Data
from ncsnx.config.model import Model
from ncsnx.config.sampler import Sampler
from ncsnx.config.schedule import LogNormal, Schedule
from ncsnx.config.training import Adam, CosineDecay, Decay, Loss, Optimizer, Retention, ScoreMatching
from ncsnx.config.variants import OUTSIDE_IDENTITY, OUTSIDE_IDENTITY_AT_DEFAULT, Config

MOST_STEPS = 1_000_000_000
Precision = Literal["fp32", "tf32", "bf16"]
"""Number format of a network: see `Experiment.precision`."""


@attrs.frozen(kw_only=True)
class Ema(Config):
    """Exponential moving average of the weights (technique 5), updated every step."""

    rate: float = attrs.field(default=0.999, validator=checks.fraction)
    """μ in EMA ← μ·EMA + (1 − μ)·w after every step, at least 0 and below 1."""


@attrs.frozen(kw_only=True)
class Augmentation(Config):
    """Random geometric transformations of training images, with labels by which the network tells them from the images
    (Karras et al. 2022, arXiv 2206.00364, appendix F.2). Half of the images are mirrored."""

    probability: float = attrs.field(default=0.12, validator=checks.fraction)
    """Probability of each other transformation, at least 0 and below 1: scaling, rotation, stretching, translation.
    Turning upside down is half as probable."""


@attrs.frozen(kw_only=True)
class Snapshots(Config):
    """A grid of samples from the averaged weights, drawn when a checkpoint is written."""

    n: int = attrs.field(default=36, validator=checks.between(1, 100_000))
    """Number of images in a grid, 1 to 100,000."""
    every: int = attrs.field(default=1, validator=checks.between(1, 1_000_000))
    """Number of checkpoints per grid, 1 to 1,000,000: 2 draws a grid at every second checkpoint."""
    sampler: Sampler | None = None
    """Sampler of the grid, for example one with few steps. None: the experiment's own sampler."""


def _takes_batch_statistics(experiment: "Experiment") -> bool:
    return getattr(experiment.model, "normalization", None) == "batch"


@attrs.frozen(kw_only=True)
class Experiment(Config):
    """An experiment. Fields outside the identity may change when a run is resumed; the others may not."""

    name: str = attrs.field(validator=checks.name, metadata=OUTSIDE_IDENTITY)
    """Name of the experiment and, by default, of its run: 1 to 100 of the characters A-Z a-z 0-9 . _ -, beginning with
    a letter or digit and without '..'."""
    data: Data
    """Data set, and how its images reach the network."""
    schedule: Schedule
    """Noise that the network is trained with, and the levels σ_1 > … > σ_L that samplers use."""
    model: Model = attrs.field()
    """Architecture of the score network."""
    optimizer: Optimizer = attrs.field(factory=Adam)
    """Optimizer of the weights."""
    sampler: Sampler = attrs.field(metadata=OUTSIDE_IDENTITY)
    """Sampler that draws images unless a command says otherwise."""
    loss: Loss = attrs.field(factory=ScoreMatching)
    """Training loss: denoising score matching, and its weight at each σ."""
    augmentation: Augmentation | None = attrs.field(default=None, metadata=OUTSIDE_IDENTITY_AT_DEFAULT)
    """Transformations of the training images. They need a network that takes labels: model=unet."""
    ema: Ema | None = attrs.field(factory=Ema)
    """Moving average of the weights, which is evaluated and sampled. None: the raw weights are."""
    batch_size: int = attrs.field(default=128, validator=checks.between(1, 1_000_000))
    """Images per optimizer step, summed over its passes, 1 to 1,000,000."""
    accumulation: int = attrs.field(
        default=1, validator=checks.between(1, 1_000_000), metadata={"identity": _takes_batch_statistics}
    )
    """Forward and backward passes per optimizer step, 1 to 1,000,000; divides `batch_size`. More passes need less
    memory, and change the weights by rounding; with batch normalization they are part of the identity."""
    warmup_steps: int = attrs.field(default=0, validator=checks.between(0, MOST_STEPS))
    """Optimizer steps over which the learning rate rises linearly to `optimizer.lr`, 0 to 1,000,000,000."""
    decay: Decay | None = attrs.field(default=None, metadata=OUTSIDE_IDENTITY_AT_DEFAULT)
    """Decay of the learning rate. None: it is constant after the warm-up."""
    clip_norm: float | None = attrs.field(default=None, validator=checks.positive)
    """Largest Euclidean norm of the gradient, > 0; larger gradients are scaled down to it. None: no clipping."""
    precision: Precision = "fp32"
    """Number format of the network. 'tf32' multiplies in TensorFloat-32, forward and backward, and needs CUDA. 'bf16'
    runs the body of the network under autocast. Weights, loss and the states of samplers stay in fp32."""
    seed: int = attrs.field(default=0, validator=checks.between(0, 2**32 - 1))
    """Seed of all random numbers of the training, 0 to 4,294,967,295."""
    initial_weights: str | None = attrs.field(
        default=None, validator=checks.sha256_hex, metadata=OUTSIDE_IDENTITY_AT_DEFAULT
    )
    """sha256 of the weights that training starts from, in hexadecimal; `ncsnx train --from` fills it in. None: random
    weights of the seed."""

    steps: int = attrs.field(validator=checks.between(1, MOST_STEPS), metadata=OUTSIDE_IDENTITY)
    """Optimizer steps of the complete run, 1 to 1,000,000,000."""
    checkpoint_every: int = attrs.field(
        default=5_000, validator=checks.between(1, MOST_STEPS), metadata=OUTSIDE_IDENTITY
    )
    """Optimizer steps between two checkpoints, 1 to 1,000,000,000; the last step always gets one."""
    eval_every: int = attrs.field(default=100, validator=checks.between(1, MOST_STEPS), metadata=OUTSIDE_IDENTITY)
    """Optimizer steps between two held-out losses of the averaged weights, 1 to 1,000,000,000."""
    log_every: int = attrs.field(default=10, validator=checks.between(1, MOST_STEPS), metadata=OUTSIDE_IDENTITY)
    """Optimizer steps per logged training loss, which is their mean, 1 to 1,000,000,000."""
    snapshots: Snapshots | None = attrs.field(factory=Snapshots, metadata=OUTSIDE_IDENTITY)
    """Grids of samples that are drawn at checkpoints. None: no grids."""
    retention: Retention = attrs.field(factory=Retention, metadata=OUTSIDE_IDENTITY)
    """Rules that prune checkpoints."""
    note: str = attrs.field(default="", validator=checks.one_line, metadata=OUTSIDE_IDENTITY)
    """Remark that is shown with the run: one line of printable text."""

    @property
    def uses_sigma_data(self) -> bool:
        """Whether the training depends on `data.sigma_data`."""
        return self.model.uses_sigma_data or self.loss.uses_sigma_data

    def is_complete(self, step: int) -> bool:
        """Whether a training of this experiment has ended at a step."""
        return step >= self.steps

    @model.validator
    def _takes_the_noise(self, attribute: "attrs.Attribute[Model]", value: Model) -> None:
        if isinstance(self.schedule, LogNormal) and not getattr(value, "any_sigma", True):
            raise checks.FieldError("model", "must take any σ for schedule=lognormal, as ncsnv2 and unet do")
        if getattr(self.data, "is_noisy", False) and not getattr(value, "any_sigma", True):
            raise checks.FieldError("model", "must take any σ for noisy images, as ncsnv2 and unet do")

    @loss.validator
    def _can_be_learned(self, attribute: "attrs.Attribute[Loss]", value: Loss) -> None:
        if getattr(self.data, "is_noisy", False) and not getattr(value, "takes_noisy_images", True):
            raise checks.FieldError("loss", "needs clean images; of noisy ones only score-matching learns")
        if getattr(value, "learns_scores", True):
            return
        if not getattr(self.model, "any_sigma", True):
            raise checks.FieldError("loss", "needs a network that takes any σ, as ncsnv2 and unet do")
        if getattr(value, "halve_every", 1) is None and not isinstance(self.decay, CosineDecay):
            raise checks.FieldError("loss", "needs loss.halve_every, or decay=cosine, whose steps are divided then")

    @augmentation.validator
    def _has_labels(self, attribute: "attrs.Attribute[Augmentation | None]", value: Augmentation | None) -> None:
        if value is not None and not getattr(self.model, "takes_labels", True):
            raise checks.FieldError("augmentation", "needs a network that takes labels, as unet does")
        if value is not None and getattr(self.data, "random_flip", False) is True:
            raise checks.FieldError("augmentation", "mirrors images, and tells the network; set data.random_flip=false")
        if value is not None and getattr(self.data, "is_noisy", False):
            raise checks.FieldError("augmentation", "must be none for noisy images, whose noise interpolation smooths")

    @accumulation.validator
    def _divides_the_batch(self, attribute: "attrs.Attribute[int]", value: int) -> None:
        if checks.is_whole(value) and checks.is_whole(self.batch_size) and self.batch_size % max(1, value):
            raise checks.FieldError("accumulation", f"must divide batch_size={self.batch_size}, which {value} does not")
