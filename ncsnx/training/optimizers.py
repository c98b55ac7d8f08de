"""Builds torch optimizers from their configurations, and computes the learning rate of a step.

On CUDA and MPS, Adam and SGD are fused. Elsewhere optimizers are `foreach`: on CPUs `fused` would save 1 % of a step
and change the last bits. Their saved state is the same everywhere.
"""

import math
from collections.abc import Iterable, Sequence
from functools import singledispatch
from inspect import signature, unwrap
from typing import TypeVar

import attrs
import torch
from torch import nn

from ncsnx.config import SGD, Adam, CosineDecay, Decay, Experiment, InverseSqrtDecay, Optimizer, RMSProp
from ncsnx.errors import Hint, NcsnxError
from ncsnx.networks.execution import Execution
from ncsnx.registering import unregistered

T = TypeVar("T", bound=torch.optim.Optimizer)


def _eager(optimizer: type[T]) -> type[T]:
    """The class without torch's wrappers of its methods: for torch.compile, which never sees an optimizer here, they
    import torch._dynamo, which takes as long as importing torch."""
    methods = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
    bare = {name: unwrap(getattr(optimizer, name)) for name in methods}
    made: type[T] = type(optimizer.__name__, (optimizer,), {**bare, "step": torch.no_grad()(unwrap(optimizer.step))})
    return made


_Adam, _RMSprop, _SGD = _eager(torch.optim.Adam), _eager(torch.optim.RMSprop), _eager(torch.optim.SGD)


@singledispatch
def build_optimizer(config: Optimizer, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """Builds the optimizer for `config`. A package registers its own with `@build_optimizer.register(Config)`.

    Its `step` takes no closure. The parameters are contiguous, except for the configurations of ncsnx.
    """
    raise unregistered("optimizer", type(config), "ncsnx.training.optimizers.build_optimizer.register")


@build_optimizer.register
def _(config: Adam, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    return _Adam(
        parameters,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        weight_decay=config.weight_decay,
        amsgrad=config.amsgrad,
        lr=config.lr,
        **_execution_of(parameters),
    )


@build_optimizer.register
def _(config: RMSProp, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    return _RMSprop(
        parameters,
        alpha=config.alpha,
        eps=config.eps,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        lr=config.lr,
        foreach=True,
    )


@build_optimizer.register
def _(config: SGD, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    return _SGD(
        parameters,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        lr=config.lr,
        **_execution_of(parameters),
    )


def checked_optimizer(config: Optimizer, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Builds an optimizer that steps by given gradients. Raises NcsnxError for one that evaluates the loss itself."""
    optimizer = build_optimizer(config, list(parameters))
    closure = signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise NcsnxError(
            f"{type(optimizer).__name__} evaluates the loss several times per step, by a closure, but training gives "
            "an optimizer the gradients of one batch",
            Hint("use an optimizer whose `step` needs no closure, such as adam"),
        )
    return optimizer


def training_execution(config: Optimizer, execution: Execution) -> Execution:
    """The execution with the memory format of kernels that the optimizer works in.

    The optimizers of ncsnx compute element by element, in any order. A package's may take a weight as a vector or a
    matrix by `view`, which torch allows for contiguous ones only.
    """
    return attrs.evolve(execution, contiguous_kernels=type(config) not in (Adam, RMSProp, SGD))


def _execution_of(parameters: Sequence[nn.Parameter]) -> dict[str, bool]:
    """How an update is computed on the device of the parameters."""
    devices = {parameter.device.type for parameter in parameters}
    return {"fused": True} if devices in ({"cuda"}, {"mps"}) else {"foreach": True}


def learning_rate(experiment: Experiment, step: int) -> float:
    """Learning rate of the update from `step` to `step` + 1: linear warm-up, times the decay."""
    lr, warmup_steps = experiment.optimizer.lr, experiment.warmup_steps
    lr *= min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    return lr if experiment.decay is None else lr * decay_at(experiment.decay, step)


@singledispatch
def decay_at(config: Decay, step: int) -> float:
    """The factor of the learning rate after `step` updates. A package registers its own here."""
    raise unregistered("decay", type(config), "ncsnx.training.optimizers.decay_at.register")


@decay_at.register
def _(config: CosineDecay, step: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(1.0, step / config.steps)))


@decay_at.register
def _(config: InverseSqrtDecay, step: int) -> float:
    return math.sqrt(config.steps / max(step, config.steps))
