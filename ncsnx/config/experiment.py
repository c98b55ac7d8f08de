"""An experiment: everything that determines a trained network, and how it is trained, watched and sampled."""

import math
from typing import Literal

import attrs

from ncsnx.config import checks
from ncsnx.config.data_sets import Data
from ncsnx.config.model import Model
from ncsnx.config.optimizer import Adam, Optimizer
from ncsnx.config.retention import Retention
from ncsnx.config.sampler import Sampler
from ncsnx.config.schedule import Schedule
from ncsnx.config.variants import NONE_AT_ZERO, OUTSIDE_IDENTITY, Config

MOST_STEPS = 1_000_000_000


@attrs.frozen(kw_only=True)
class ScoreMatching(Config):
    """Denoising score matching: ½ ‖s(x̃, i) + z/σ_i‖² · σ_i^p, the mean over the batch."""

    power: float = attrs.field(default=2.0, validator=checks.not_negative)
    """p; 2 gives every level the same weight."""


@attrs.frozen(kw_only=True)
class Ema(Config):
    """Exponential moving average of the weights (technique 5), updated every step."""

    rate: float = attrs.field(default=0.999, validator=checks.fraction)
    """μ in EMA ← μ·EMA + (1 − μ)·w."""


@attrs.frozen(kw_only=True)
class Snapshots(Config):
    """A grid of samples from the averaged weights, drawn when a checkpoint is written."""

    n: int = attrs.field(default=36, validator=checks.between(1, 100_000), metadata=NONE_AT_ZERO)
    """Images in a grid."""
    every: int = attrs.field(default=1, validator=checks.between(1, 1_000_000))
    """One grid in so many checkpoints."""
    sampler: Sampler | None = None
    """What draws the grid, such as one of few steps; None: the experiment's own sampler."""


@attrs.frozen(kw_only=True)
class Experiment(Config):
    """One experiment. Fields outside the identity may change when a run is resumed; the others may not."""

    name: str = attrs.field(validator=checks.name, metadata=OUTSIDE_IDENTITY)
    data: Data
    schedule: Schedule
    model: Model
    optimizer: Optimizer = attrs.field(factory=Adam)
    sampler: Sampler = attrs.field(metadata=OUTSIDE_IDENTITY)
    loss: ScoreMatching = attrs.field(factory=ScoreMatching)
    ema: Ema | None = attrs.field(factory=Ema)
    batch_size: int = attrs.field(default=128, validator=checks.between(1, 1_000_000))
    """Images in one optimizer step, however many passes they take."""
    accumulation: int = attrs.field(default=1, validator=checks.between(1, 1_000_000))
    """Passes that share one optimizer step; divides `batch_size`."""
    warmup_steps: int = attrs.field(default=0, validator=checks.between(0, MOST_STEPS))
    """Steps over which the learning rate rises linearly to its value."""
    clip_norm: float | None = attrs.field(default=None, validator=checks.when_given(checks.positive))
    """Largest norm of the gradient; longer ones are scaled down to it."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """'bf16' runs the body of the network under autocast; weights, loss and samplers' states stay in fp32."""
    seed: int = attrs.field(default=0, validator=checks.between(0, 2**32 - 1))

    steps: int = attrs.field(validator=checks.between(1, MOST_STEPS), metadata=OUTSIDE_IDENTITY)
    """Optimizer steps until the run is complete."""
    checkpoint_every: int = attrs.field(
        default=5_000, validator=checks.between(1, MOST_STEPS), metadata=OUTSIDE_IDENTITY
    )
    eval_every: int = attrs.field(default=100, validator=checks.between(1, MOST_STEPS), metadata=OUTSIDE_IDENTITY)
    """Steps between two held-out losses of the averaged weights."""
    log_every: int = attrs.field(default=10, validator=checks.between(1, MOST_STEPS), metadata=OUTSIDE_IDENTITY)
    """Steps that one logged training loss is the mean of."""
    snapshots: Snapshots | None = attrs.field(factory=Snapshots, metadata=OUTSIDE_IDENTITY)
    retention: Retention = attrs.field(factory=Retention, metadata=OUTSIDE_IDENTITY)
    note: str = attrs.field(default="", validator=checks.one_line, metadata=OUTSIDE_IDENTITY)

    def bias_of(self, sampler: Sampler) -> str | None:
        """How a sampler is known to draw another distribution than that of images of this size, as a sentence."""
        return sampler.known_bias(math.prod(self.data.shape))

    @property
    def known_biases(self) -> tuple[str, ...]:
        """`bias_of` the experiment's own sampler, and of that of its snapshots."""
        grids = None if self.snapshots is None else self.snapshots.sampler
        own, of_grids = self.bias_of(self.sampler), None if grids is None else self.bias_of(grids)
        return *([own] if own else []), *([f"snapshots: {of_grids}"] if of_grids else [])

    @accumulation.validator
    def _divides_the_batch(self, attribute: "attrs.Attribute[int]", value: int) -> None:
        if checks.is_whole(value) and checks.is_whole(self.batch_size) and self.batch_size % max(1, value):
            raise checks.FieldError("accumulation", f"must divide batch_size={self.batch_size}, which {value} does not")
