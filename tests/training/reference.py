"""An independent implementation of training, written from the description of the method, with plain SGD."""

import math

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from ncsnx.config import Experiment
from ncsnx.networks import Network
from ncsnx.randomness import Purpose, Stream
from ncsnx.samplers.state import score_of
from tests.spaces import untrained


def reference_training(experiment: Experiment, steps: int) -> tuple[dict[str, Tensor], dict[str, Tensor], list[float]]:
    """Trains on the flipped, dequantized digits; returns weights, averaged weights and the loss of each step."""
    assert experiment.ema is not None
    rate, network, images = experiment.ema.rate, untrained(experiment), _stream(experiment.seed)
    parameters = dict(network.named_parameters())
    velocity = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    average = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    losses = []
    for step in range(steps):
        places = torch.arange(step * experiment.batch_size, (step + 1) * experiment.batch_size)
        loss = _loss(experiment, network, images[places], places)
        gradients = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))
        losses.append(loss.item())
        norm = math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients.values()))
        scale = 1.0 if experiment.clip_norm is None else min(1.0, experiment.clip_norm / norm)
        lr = experiment.optimizer.lr * min(1.0, (step + 1) / max(1, experiment.warmup_steps))
        with torch.no_grad():
            for name, parameter in parameters.items():
                velocity[name] = 0.9 * velocity[name] + scale * gradients[name]
                parameter -= lr * velocity[name]
                average[name] = rate * average[name] + (1 - rate) * parameter
    return {name: parameter.detach() for name, parameter in parameters.items()}, average, losses


def _stream(seed: int) -> Tensor:
    """The training images of the first two epochs in order, in [0, 1]."""
    digits = torch.tensor(load_digits().images, dtype=torch.float32).unsqueeze(1) / 16
    kept = torch.tensor([index for index in range(len(digits)) if index % 6 != 5])
    orders = [Stream(seed, Purpose.DATA_ORDER).permutation(len(kept), epoch) for epoch in range(2)]
    return digits[kept[torch.cat(orders)]]


def _loss(experiment: Experiment, network: Network, images: Tensor, places: Tensor) -> Tensor:
    """Mean of ½ ‖s(x̃, σ) + z/σ‖² σ^p over the batch, computed level by level."""
    seed, schedule = experiment.seed, experiment.schedule
    flips = Stream(seed, Purpose.FLIP).uniform(places, (1,))
    x = torch.stack([image.flip(2) if flip < 0.5 else image for image, flip in zip(images, flips, strict=True)])
    x = x * 16 / 17 + Stream(seed, Purpose.DEQUANTIZATION).uniform(places, (1, 8, 8)) / 17
    levels = Stream(seed, Purpose.NOISE_LEVEL).integers(places, schedule.levels)
    z = Stream(seed, Purpose.TRAINING_NOISE).normal(places, (1, 8, 8))
    total = torch.zeros(())
    for level in range(schedule.levels):
        sigma = schedule.sigma_max * (schedule.sigma_min / schedule.sigma_max) ** (level / (schedule.levels - 1))
        clean, noise = x[levels == level], z[levels == level]
        distance = score_of(network.scaled_score, clean + sigma * noise, sigma) + noise / sigma
        total = total + 0.5 * distance.square().sum() * sigma**experiment.loss.power
    return total / len(places)
