"""Configuration of losses, optimizers and rules that prune checkpoints."""

from typing import Literal

import attrs

from ncsnx.config import checks
from ncsnx.config.variants import OUTSIDE_IDENTITY_AT_DEFAULT, Config, tag_of, variant


@attrs.frozen(kw_only=True)
class Optimizer(Config):
    """A gradient-based optimizer with a learning rate."""

    lr: float = attrs.field(default=1e-4, validator=checks.positive)
    """Learning rate, > 0."""
    weight_decay: float = attrs.field(default=0.0, validator=checks.not_negative)
    """L2 penalty, >= 0: λ in g ← g + λ·w."""


@variant(Optimizer, "adam")
@attrs.frozen(kw_only=True)
class Adam(Optimizer):
    """Adam (Kingma & Ba 2015), optionally with AMSGrad (Reddi et al. 2018)."""

    beta1: float = attrs.field(default=0.9, validator=checks.fraction)
    """β₁, the decay per step of the mean gradient, at least 0 and below 1."""
    beta2: float = attrs.field(default=0.999, validator=checks.fraction)
    """β₂, the decay per step of the mean squared gradient, at least 0 and below 1."""
    eps: float = attrs.field(default=1e-8, validator=checks.positive)
    """ε > 0, added to the root of the mean squared gradient."""
    amsgrad: bool = False
    """Whether the largest mean squared gradient so far takes the place of the current one (AMSGrad)."""


@variant(Optimizer, "rmsprop")
@attrs.frozen(kw_only=True)
class RMSProp(Optimizer):
    """RMSProp (Hinton 2012)."""

    alpha: float = attrs.field(default=0.99, validator=checks.fraction)
    """α, the decay per step of the mean squared gradient, at least 0 and below 1."""
    eps: float = attrs.field(default=1e-8, validator=checks.positive)
    """ε > 0, added to the root of the mean squared gradient."""
    momentum: float = attrs.field(default=0.0, validator=checks.fraction)
    """Momentum, at least 0 and below 1; 0: none."""


@variant(Optimizer, "sgd")
@attrs.frozen(kw_only=True)
class SGD(Optimizer):
    """Stochastic gradient descent with momentum."""

    momentum: float = attrs.field(default=0.9, validator=checks.fraction)
    """Momentum, at least 0 and below 1; 0: none."""


@attrs.frozen(kw_only=True)
class Loss(Config):
    """What a network is trained for."""

    @property
    def uses_sigma_data(self) -> bool:
        """Whether it depends on `data.sigma_data`."""
        return False

    @property
    def learns_scores(self) -> bool:
        """Whether the network becomes a score network: its D is the mean of clean images."""
        return True

    @property
    def takes_noisy_images(self) -> bool:
        """Whether it takes account of the noise that images have, `data.noise`, where there is any."""
        return False

    @property
    def in_words(self) -> str:
        """The loss with its weights: 'denoising score matching, weighted by σ^2'."""
        return tag_of(type(self)) or type(self).__name__


@variant(Loss, "score-matching", untagged=True)
@attrs.frozen(kw_only=True)
class ScoreMatching(Loss):
    """Denoising score matching: the mean of ½ ‖s(x̃, σ) + z/σ‖² · λ(σ) over the batch."""

    power: float = attrs.field(default=2.0, validator=checks.not_negative)
    """p >= 0, the power of σ in the weighting 'power'; 2 gives every level the same weight."""
    weighting: Literal["power", "edm"] = attrs.field(default="power", metadata=OUTSIDE_IDENTITY_AT_DEFAULT)
    """λ(σ): 'power' is σ^p (Song & Ermon 2019); 'edm' is 2σ² (1 + σ²/σ_data²), with which the loss is that of Karras et
    al. 2022 (arXiv 2206.00364, table 1), (σ² + σ_data²)/(σ·σ_data)² · ‖D(x̃, σ) − x‖²."""

    @weighting.validator
    def _has_no_power(self, attribute: "attrs.Attribute[str]", value: str) -> None:
        if value == "edm" and self.power != 2:
            raise checks.FieldError("power", f"must be left out for weighting=edm, not {self.power:g}")

    @property
    def uses_sigma_data(self) -> bool:
        """Whether the weights depend on `data.sigma_data`."""
        return self.weighting == "edm"

    @property
    def takes_noisy_images(self) -> bool:
        """It adds the noise that is missing at σ, and expects of the network what is known of the clean image."""
        return True

    @property
    def in_words(self) -> str:
        weights = f"by σ^{self.power:g}" if self.weighting == "power" else "as in EDM"
        return f"denoising score matching, weighted {weights}"


@variant(Loss, "consistency")
@attrs.frozen(kw_only=True)
class Consistency(Loss):
    """Consistency tuning of a score network: ‖D(x + σz, σ) − D(x + rz, r)‖ with r < σ, a stopped teacher and a
    pseudo-Huber metric, weighted by 1/(σ − r) (Song & Dhariwal 2023, arXiv 2310.14189; Geng et al. 2024, arXiv
    2406.14548).

    Then D(x, σ) is where the probability flow from (x, σ) ends, and images take one or two evaluations. Training
    starts from the weights of a score network (`ncsnx train --from`). Below `schedule.sigma_min`, r is 0, and the
    target the image.
    """

    halvings: int = attrs.field(default=8, validator=checks.between(0, 20))
    """Number of times that 1 − r/σ is halved, 0 to 20. At first r is 0 for small σ and σ/2 for large ones."""
    halve_every: int | None = attrs.field(default=None, validator=checks.between(1, 1_000_000_000))
    """Optimizer steps between them, 1 to 1,000,000,000. None: those of a cosine decay in halvings + 1 equal parts."""
    k: float = attrs.field(default=8.0, validator=checks.not_negative)
    """k >= 0 in r/σ = 1 − (1 + k/(1 + exp(bσ)))/2^(a + 1) after a halvings (Geng et al. 2024, section 3.3)."""
    b: float = attrs.field(default=1.0, validator=checks.positive)
    """b > 0, for σ in the units of `schedule.sigma_max`."""
    huber: float = attrs.field(default=0.00054, validator=checks.not_negative)
    """c/√(C·H·W) >= 0 of the metric √(‖d‖² + c²) − c (Song & Dhariwal 2023, section 3.3)."""

    @property
    def learns_scores(self) -> bool:
        return False

    @property
    def in_words(self) -> str:
        return "consistency tuning"


@attrs.frozen(kw_only=True)
class Decay(Config):
    """A factor of the learning rate that falls with the steps, after the warm-up's."""

    steps: int = attrs.field(validator=checks.between(1, 1_000_000_000))
    """Optimizer steps, 1 to 1,000,000,000: see the variants."""


@variant(Decay, "cosine")
@attrs.frozen(kw_only=True)
class CosineDecay(Decay):
    """½ (1 + cos πt/T) at step t (Loshchilov & Hutter 2017, arXiv 1608.03983); 0 from step T = `steps` on."""


@variant(Decay, "inverse-sqrt")
@attrs.frozen(kw_only=True)
class InverseSqrtDecay(Decay):
    """√(T/t) after step T = `steps`, 1 before it (Karras et al. 2024, arXiv 2312.02696, equation 67)."""


@attrs.frozen(kw_only=True)
class Retention(Config):
    """Rules that prune checkpoints: one that no rule keeps is removed. Without a rule all stay.

    The best and the last checkpoint are always kept.
    """

    keep_last: int | None = attrs.field(default=None, validator=checks.between(1, 1_000_000))
    """Number of latest checkpoints to keep, 1 to 1,000,000. None: no such rule. With 1, a damaged last checkpoint may
    leave nothing to resume from."""
    keep_every: int | None = attrs.field(default=None, validator=checks.between(1, 1_000_000_000))
    """Keeps checkpoints whose step is a multiple of it, 1 to 1,000,000,000; it should be one of `checkpoint_every`.
    None: no such rule."""
    keep_best: bool = False
    """Alone: keeps the best of the scored checkpoints and all without a score. With another rule it has no effect,
    since no rule removes the best."""

    @property
    def removes_checkpoints(self) -> bool:
        """Whether a rule is set, so that checkpoints may be removed."""
        return self.keep_last is not None or self.keep_every is not None or self.keep_best
