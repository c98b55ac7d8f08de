"""How long a sweep will take: from evaluations that are timed on this machine, before it starts."""

import time

import torch

from ncsnx.features.feature_network import FeatureNetwork
from ncsnx.sampling.score_model import ScoreModel

_TIMED = 3
"""Evaluations that are timed, after one that warms up; the fastest counts, as other work can only slow one down."""
_FEATURE_BATCH = 8


@torch.no_grad()
def seconds_per_image(model: ScoreModel, batch_size: int) -> float:
    """Seconds that one network evaluation takes per image, in batches of `batch_size`."""
    experiment, device = model.experiment, model.runtime.device
    x = torch.zeros(batch_size, *experiment.data.shape, device=device)
    sigma = model.network.noise_levels[0]
    times = []
    for _ in range(1 + _TIMED):
        start = time.perf_counter()
        _ = model.score(x, sigma).sum().item()  # the sum makes a GPU finish
        times.append(time.perf_counter() - start)
    return min(times[1:]) / batch_size


def seconds_per_features(features: FeatureNetwork, shape: tuple[int, int, int]) -> float:
    """Seconds that the features of one image of this shape (C, H, W) take."""
    images = torch.zeros(_FEATURE_BATCH, *shape, dtype=torch.uint8)
    times = []
    for _ in range(2):
        start = time.perf_counter()
        features(images)
        times.append(time.perf_counter() - start)
    return times[-1] / _FEATURE_BATCH
