"""Estimates the duration of a sweep from a quick timing on this machine."""

import time

import torch

from ncsnx.features.feature_network import FeatureNetwork
from ncsnx.sampling.score_model import ScoreModel

_TIMED = 3
"""Timed evaluations, after one for warm-up; the fastest counts, since other load can only slow them down."""
_FEATURE_BATCH = 8


@torch.no_grad()
def seconds_per_image(model: ScoreModel, batch_size: int) -> float:
    """Seconds per image of one network evaluation in batches of `batch_size`."""
    experiment, device = model.experiment, model.runtime.device
    x = torch.zeros(batch_size, *experiment.data.shape, device=device)
    sigma = model.network.noise_levels[0]
    times = []
    for _ in range(1 + _TIMED):
        start = time.perf_counter()
        _ = model.score(x, sigma).sum().item()  # the sum waits for the GPU
        times.append(time.perf_counter() - start)
    return min(times[1:]) / batch_size


def seconds_per_features(features: FeatureNetwork, shape: tuple[int, int, int]) -> float:
    """Seconds per image to compute features of images of this shape (C, H, W)."""
    images = torch.zeros(_FEATURE_BATCH, *shape, dtype=torch.uint8)
    times = []
    for _ in range(2):
        start = time.perf_counter()
        features(images)
        times.append(time.perf_counter() - start)
    return times[-1] / _FEATURE_BATCH
