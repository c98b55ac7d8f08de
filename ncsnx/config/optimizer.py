"""Configuration of optimizers, which `ncsnx.training.optimizers` builds."""

import attrs

from ncsnx.config import checks
from ncsnx.config.variants import Config, variant


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
