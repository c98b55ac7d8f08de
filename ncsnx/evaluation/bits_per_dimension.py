"""The likelihood of images under a score, in bits per dimension (value of a pixel's channel).

The flow of the probability-flow ODE carries each image from σ_min up to σ_max, where the prior N(m, σ_max² I) says how
likely it is; m is the middle of the network's range. With grey levels dequantized uniformly, an image of D values with
q grey levels takes

    log₂ q − (log p(x) + ln |det ∂x/∂u|) / (D ln 2)

bits per dimension, x being the image in the network's range and u that in [0, 1). In the mean over the dequantization
that is an upper bound of what the grey levels themselves take (Theis et al. 2016, arXiv 1511.01844, section 3.1).
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ncsnx.config.data_sets import Data
from ncsnx.data import Preprocessing, from_unit, log_slope
from ncsnx.evaluation.probability_flow import Probes, log_normal, to_the_prior
from ncsnx.randomness import Stream
from ncsnx.samplers.state import Score

METRIC = "bits per dimension"
MEANING = (
    "the likelihood of the flow that this network defines, exact but for tolerance and noise of its divergence; no "
    "bound for the SDE or another sampler. A network that is blind to σ, s(x)/σ, is the exact score of no family of "
    "blurred data: a low number says that its flow is a good model, not that the score is right at every level"
)
"""Of the number, for whoever reads it."""
Estimator = Literal["hutchinson", "skilling", "exact"]
"""Of the divergence: by vectors of signs, by Gaussian ones, or by every direction in turn."""
COLUMNS = ("bits_per_dimension", "prior", "flow", "scale", "evaluations")
"""Of each image: the sum of the next three; the bits of the prior, of the flow's divergence, of transform and grey
levels; evaluations of the network and of its divergence."""


def bits_per_dimension(
    score: Score,
    pixels: Tensor,
    positions: Tensor,
    preprocessing: Preprocessing,
    probes: Probes,
    *,
    ends: tuple[float, float],
    tolerance: float,
    watch: Callable[[float], None] = lambda sigma: None,
) -> Tensor:
    """(B, 5) float64, as COLUMNS says, of stored pixels (B, C, H, W).

    positions: (B,) int64, what their dequantization depends on. ends: σ_min and σ_max. For the rest, and what it
    raises, see `to_the_prior`.
    """
    data, (sigma_min, sigma_max) = preprocessing.data, ends
    unit = preprocessing.continuous(pixels, positions)
    flow = to_the_prior(score, from_unit(unit, data), sigma_min, sigma_max, probes, tolerance=tolerance, watch=watch)
    bits_of_nats = -1 / (math.prod(data.shape) * math.log(2))
    prior = bits_of_nats * log_normal(flow.x, prior_mean(data), sigma_max)
    volume = bits_of_nats * flow.log_volume
    scale = math.log2(preprocessing.grey_levels(pixels)) + bits_of_nats * log_slope(unit, data)
    return torch.stack([prior + volume + scale, prior, volume, scale, torch.full_like(prior, flow.evaluations)], dim=1)


def prior_mean(data: Data) -> float:
    """Of the prior at σ_max, whose standard deviation is σ_max: the middle of the network's range."""
    return float(from_unit(torch.tensor(0.5, dtype=torch.float64), data))


def probe(
    stream: Stream, estimator: Literal["hutchinson", "skilling"], places: Tensor, shape: tuple[int, ...], number: int
) -> Tensor:
    """(B, *shape) float32: an image's probe of that number, a function of the seed, its place and the number alone.

    'hutchinson': −1 or 1 with equal probability (Hutchinson 1989), whose estimate has the variance 2(‖S‖² − Σ S_ii²)
    for S the Jacobian's symmetric part; 'skilling': Gaussian (Skilling 1989), 2‖S‖².
    """
    if estimator == "skilling":
        return stream.normal(places, shape, step=number)
    return 1 - 2 * (stream.uniform(places, shape, step=number) < 0.5).float()
