"""The likelihood of images under a score, in bits per dimension (a dimension is one channel of one pixel).

The probability-flow ODE carries each image from σ_min up to σ_max, where the prior N(m, σ_max² I) gives its density; m
is the middle of the network's range. Grey levels are dequantized uniformly. An image with D dimensions and q grey
levels then takes

    log₂ q − (log p(x) + ln |det ∂x/∂u|) / (D ln 2)

bits per dimension, where x is the image in the network's range and u the image in [0, 1). Averaged over the
dequantization, this is an upper bound on the bits of the grey levels themselves (Theis et al. 2016, arXiv 1511.01844,
section 3.1).
"""

import math
from typing import Literal

import torch
from torch import Tensor

from ncsnx.config.data_sets import Data
from ncsnx.data import Preprocessing, from_unit, log_slope
from ncsnx.evaluation.probability_flow import ProbabilityFlow, Probes, log_normal
from ncsnx.randomness import Stream

METRIC = "bits per dimension"
MEANING = (
    "the likelihood of the flow that this network defines, exact up to the solver's tolerance and the noise of the "
    "divergence estimate. It is not a bound for the SDE or for another sampler. NCSNv2's form s(x)/σ is not the exact "
    "score of any family of blurred data: a low number says that its flow is a good model, not that the score is right "
    "at every level"
)
"""How to read the number, for reports."""
COLUMNS = ("bits_per_dimension", "prior", "flow", "scale", "evaluations")
"""Values per image: the total of the next three; the bits of the prior, of the flow's divergence, and of transform and
grey levels; the number of evaluations of the network and its divergence."""


def bits_per_dimension(
    flow: ProbabilityFlow, pixels: Tensor, positions: Tensor, preprocessing: Preprocessing, probes: Probes
) -> Tensor:
    """Bits per dimension of stored pixels (B, C, H, W), with their parts: (B, 5) float64 with the columns COLUMNS.

    positions: (B,) int64, the positions that the dequantization noise is drawn at. Raises DivergedError, see `solve`.
    """
    data, unit = preprocessing.data, preprocessing.continuous(pixels, positions)
    end = flow.to_prior(from_unit(unit, data), probes)
    bits_of_nats = -1 / (math.prod(data.shape) * math.log(2))
    prior = bits_of_nats * log_normal(end.x, prior_mean(data), flow.sigma_max)
    volume = bits_of_nats * end.log_volume
    scale = math.log2(preprocessing.grey_levels(pixels)) + bits_of_nats * log_slope(unit, data)
    return torch.stack([prior + volume + scale, prior, volume, scale, end.evaluations], dim=1)


def prior_mean(data: Data) -> float:
    """Mean of the prior at σ_max: the middle of the network's range. Its standard deviation is σ_max."""
    return float(from_unit(torch.tensor(0.5, dtype=torch.float64), data))


def probe(
    stream: Stream, estimator: Literal["hutchinson", "skilling"], places: Tensor, shape: tuple[int, ...], number: int
) -> Tensor:
    """Probe vector `number` of each image, (B, *shape) float32: a function of the seed, the image's place and `number`.

    'hutchinson': −1 or 1 with equal probability (Hutchinson 1989), with the variance 2(‖S‖² − Σ S_ii²) of the estimate,
    where S is the symmetric part of the Jacobian. 'skilling': Gaussian (Skilling 1989), with the variance 2‖S‖².
    """
    if estimator == "skilling":
        return stream.normal(places, shape, step=number)
    return 1 - 2 * (stream.uniform(places, shape, step=number) < 0.5).float()
