"""Builds torch optimizers from their configurations, and computes the learning rate of a step.

On CUDA they can be captured as a graph: step counts and the learning rate are tensors on the device. Their saved state
is the same everywhere. Elsewhere they are `foreach`: on CPUs `fused` would save 1 % of a step and change the last bits.
"""

import math
import warnings
from collections.abc import Iterable
from functools import singledispatch
from inspect import signature, unwrap
from typing import Any, TypeVar

import attrs
import torch
from torch import Tensor, nn

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
def build_optimizer(config: Optimizer, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Builds the optimizer for `config`. A package registers its own with `@build_optimizer.register(Config)`.

    Its `step` takes no closure. The parameters are contiguous, except for the configurations of ncsnx.
    """
    raise unregistered("optimizer", type(config), "ncsnx.training.optimizers.build_optimizer.register")


@build_optimizer.register
def _(config: Adam, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    parameters = list(parameters)
    return _Adam(
        parameters,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        weight_decay=config.weight_decay,
        amsgrad=config.amsgrad,
        **_at(config.lr, parameters, {"fused": True, "capturable": True}),
    )


@build_optimizer.register
def _(config: RMSProp, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    parameters = list(parameters)
    return _RMSprop(
        parameters,
        alpha=config.alpha,
        eps=config.eps,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        **_at(config.lr, parameters, {"foreach": True, "capturable": True}),
    )


@build_optimizer.register
def _(config: SGD, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    parameters = list(parameters)
    return _SGD(
        parameters,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        **_at(config.lr, parameters, {"fused": True}),
    )


def checked_optimizer(config: Optimizer, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Builds an optimizer that steps by given gradients. Raises NcsnxError for one that evaluates the loss itself."""
    optimizer = build_optimizer(config, parameters)
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


def _at(lr: float, parameters: list[nn.Parameter], on_cuda: dict[str, bool]) -> dict[str, Any]:
    """The learning rate, and how the update is computed on the device of the parameters."""
    if parameters and all(parameter.is_cuda for parameter in parameters):
        # the steps before a capture, and all of them without graphs
        warnings.filterwarnings("ignore", message="This instance was constructed with capturable=True")
        return {"lr": torch.tensor(lr, device=parameters[0].device), **on_cuda}
    return {"lr": lr, "foreach": True}


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float | Tensor) -> None:
    """Sets the learning rate of the next update: in place where it is a tensor, without waiting for the device.

    lr: a number; where the optimizer's is a tensor, also a 0-dim tensor on its device.
    """
    for group in optimizer.param_groups:
        if not isinstance(group["lr"], Tensor):
            group["lr"] = lr
        elif isinstance(lr, Tensor):
            group["lr"].copy_(lr)
        else:
            group["lr"].fill_(lr)


def is_capturable(optimizer: torch.optim.Optimizer) -> bool:
    """Whether its updates can be captured: the learning rate is a tensor, and no count of steps is a Python number.

    torch's other optimizers say whether they were built for it. Its SGD counts no steps, unless a subclass has a `step`
    of its own, but reads the learning rate as a Python number unless it is fused.
    """
    is_sgd = unwrap(type(optimizer).step) is unwrap(torch.optim.SGD.step)
    return all(
        isinstance(group["lr"], Tensor) and (group.get("capturable", False) or (is_sgd and group["fused"] is True))
        for group in optimizer.param_groups
    )


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
