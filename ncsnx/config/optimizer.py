"""Optimizers as configuration. What builds them is in `ncsnx.training.optimizers`."""

import attrs

from ncsnx.config import checks
from ncsnx.config.variants import Config, variant


@attrs.frozen(kw_only=True)
class Optimizer(Config):
    """A gradient-based optimizer with a learning rate."""

    lr: float = attrs.field(default=1e-4, validator=checks.positive)
    weight_decay: float = attrs.field(default=0.0, validator=checks.not_negative)


@variant(Optimizer, "adam")
@attrs.frozen(kw_only=True)
class Adam(Optimizer):
    """Adam (Kingma & Ba 2015), with AMSGrad (Reddi et al. 2018) on request."""

    beta1: float = attrs.field(default=0.9, validator=checks.fraction)
    beta2: float = attrs.field(default=0.999, validator=checks.fraction)
    eps: float = attrs.field(default=1e-8, validator=checks.positive)
    amsgrad: bool = False


@variant(Optimizer, "rmsprop")
@attrs.frozen(kw_only=True)
class RMSProp(Optimizer):
    """RMSProp (Hinton 2012)."""

    alpha: float = attrs.field(default=0.99, validator=checks.fraction)
    eps: float = attrs.field(default=1e-8, validator=checks.positive)
    momentum: float = attrs.field(default=0.0, validator=checks.fraction)


@variant(Optimizer, "sgd")
@attrs.frozen(kw_only=True)
class SGD(Optimizer):
    """Stochastic gradient descent with momentum."""

    momentum: float = attrs.field(default=0.9, validator=checks.fraction)
