"""Builds torch optimizers from their configurations, and computes the learning rate of a step."""

from collections.abc import Iterable
from functools import singledispatch

import torch
from torch import nn

from ncsnx.config import SGD, Adam, Optimizer, RMSProp
from ncsnx.registering import unregistered


@singledispatch
def build_optimizer(config: Optimizer, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Builds the optimizer for `config`. A package registers its own with `@build_optimizer.register(Config)`."""
    raise unregistered("optimizer", type(config), "ncsnx.training.optimizers.build_optimizer.register")


@build_optimizer.register
def _(config: Adam, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(
        parameters,
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        weight_decay=config.weight_decay,
        amsgrad=config.amsgrad,
        foreach=True,
    )


@build_optimizer.register
def _(config: RMSProp, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(
        parameters,
        lr=config.lr,
        alpha=config.alpha,
        eps=config.eps,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        foreach=True,
    )


@build_optimizer.register
def _(config: SGD, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, foreach=True
    )


def learning_rate(config: Optimizer, step: int, warmup_steps: int) -> float:
    """Learning rate of the update from `step` to `step` + 1: linear warm-up over `warmup_steps`, then constant."""
    return config.lr * min(1.0, (step + 1) / warmup_steps) if warmup_steps else config.lr
