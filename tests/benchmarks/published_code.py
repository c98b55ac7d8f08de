"""The published implementation of NCSNv2, from a checkout of its repository, which it executes.

git clone https://github.com/ermongroup/ncsnv2

No test has such a checkout: `executions --against` refuses one whose scores differ from ours by more than AGREEMENT.
"""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ncsnx.config import NCSN, NCSNDeeper, NCSNv2, NCSNv2Deeper, NCSNv2Deepest
from ncsnx.config.experiment import Experiment
from ncsnx.config.model import RefineNetModel
from ncsnx.networks import Network, to_published

AGREEMENT = 2e-5
"""Largest difference of its outputs from ours, relative to the largest output."""
CLASSES = {
    NCSNv2: ("models.ncsnv2", "NCSNv2"),
    NCSNv2Deeper: ("models.ncsnv2", "NCSNv2Deeper"),
    NCSNv2Deepest: ("models.ncsnv2", "NCSNv2Deepest"),
    NCSN: ("models.ncsn", "NCSN"),
    NCSNDeeper: ("models.ncsn", "NCSNdeeper"),
}
ACTIVATIONS = {"elu": "elu", "relu": "relu", "leaky_relu": "lrelu", "swish": "swish"}
NORMALIZATIONS = {
    "instance++": "InstanceNorm++",
    "instance": "InstanceNorm",
    "variance": "VarianceNorm",
    "batch": "BatchNorm",
    "none": "NoneNorm",
}


class PublishedNetwork:
    """The published network with our weights, and its own loss, Adam and moving average."""

    def __init__(self, checkout: Path, network: Network, experiment: Experiment, device: torch.device) -> None:
        """network: ours, on the device."""
        sys.path.insert(0, str(checkout.resolve()))
        config = published_config(experiment, device)
        module, name = CLASSES[type(experiment.model)]
        self.power = experiment.loss.power
        self.network: Any = getattr(importlib.import_module(module), name)(config).to(device)
        self.sigmas: Tensor = importlib.import_module("models").get_sigmas(config)
        self.loss = importlib.import_module("losses.dsm").anneal_dsm_score_estimation
        names = to_published(network)
        state = {names[ours]: tensor for ours, tensor in network.state_dict().items()}
        self.network.load_state_dict({**self.network.state_dict(), **state})
        self.optimizer = importlib.import_module("losses").get_optimizer(config, self.network.parameters())
        self.average = importlib.import_module("models.ema").EMAHelper(mu=config.model.ema_rate)
        self.average.register(self.network)

    @torch.no_grad()
    def evaluate(self, x: Tensor, levels: Tensor) -> Tensor:
        """s(x, σ), (B, C, H, W)."""
        self.network.eval()
        score: Tensor = self.network(x, levels)
        return score

    def step(self, x: Tensor) -> None:
        """A training step on clean images, as in the published runner; its loss draws levels and noise."""
        self.network.train()
        loss = self.loss(self.network, x, self.sigmas, None, self.power)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.average.update(self.network)


def published_config(experiment: Experiment, device: torch.device) -> SimpleNamespace:
    """The experiment as the published code reads it from its YAML files."""
    data, model, schedule = experiment.data, experiment.model, experiment.schedule
    assert isinstance(model, RefineNetModel)
    return SimpleNamespace(
        device=device,
        data=SimpleNamespace(
            image_size=max(data.shape[1:]),  # the published networks only ask whether it is 28
            channels=data.channels,
            logit_transform=data.transform == "logit",
            rescaled=data.transform == "rescaled",
        ),
        model=SimpleNamespace(
            ngf=model.width,
            normalization=NORMALIZATIONS[model.normalization],
            nonlinearity=ACTIVATIONS[model.activation],
            sigma_begin=schedule.sigma_max,
            sigma_end=schedule.sigma_min,
            num_classes=schedule.levels,
            sigma_dist="geometric",
            spec_norm=bool(getattr(model, "spectral_norm", False)),
            ema_rate=0.999 if experiment.ema is None else experiment.ema.rate,
        ),
        optim=SimpleNamespace(optimizer="Adam", lr=1e-4, weight_decay=0.0, beta1=0.9, amsgrad=False, eps=1e-8),
    )
