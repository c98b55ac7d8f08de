"""Likelihood of images by the probability-flow ODE: Song et al. 2021 (arXiv 2011.13456), section 4.3, appendix D.

The variance-exploding SDE dx = √(dσ²/dσ) dw has the same marginals as dx/dσ = −σ s(x, σ), equation 13 with σ as
time. Along this flow, log p changes at the rate of minus the divergence (equation 39):

    log p(x at σ_min) = log p(x at σ_max) + ∫ ∇ · (−σ s(x, σ)) dσ.

At σ_max the prior N(m, σ_max² I) gives the density; m is the middle of the network's range. Gray levels are dequantized
uniformly. An image with D dimensions (channels of pixels) and q gray levels then takes

    log₂ q − (log p(x) + ln |det ∂x/∂u|) / (D ln 2)

bits per dimension, where x is the image in the network's range and u the image in [0, 1). Averaged over the
dequantization, this is an upper bound on the bits of the gray levels themselves (Theis et al. 2016, arXiv 1511.01844,
section 3.1).
"""

import math
from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from ncsnx.config.experiment import Precision
from ncsnx.data import Preprocessing
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.networks.contract import NO_COND, Cond
from ncsnx.randomness import Purpose, Stream
from ncsnx.ranks.rank_group import never_stop
from ncsnx.samplers.dormand_prince import rms_error, solve
from ncsnx.samplers.state import ScaledScore
from ncsnx.sampling.consistency import TUNED
from ncsnx.spelling import parameter

METRIC = "bits per dimension"
MEANING = (
    "the likelihood of the flow that this network defines, exact up to the solver's tolerance and the noise of the "
    "divergence estimate. It is not a bound for the SDE or for another sampler"
)
"""How to read the number, for reports."""
FORM = (
    "NCSNv2's form s(x)/σ is not the exact score of any family of blurred data: a low number says that its flow is a "
    "good model, not that the score is right at every level"
)
"""The sentence that an NCSNv2 adds to that."""
COLUMNS = ("bits_per_dimension", "prior", "flow", "scale", "evaluations")
"""Values per image: the total of the next three; the bits of the prior, of the flow's divergence, and of transform and
gray levels; the number of evaluations of the network and its divergence."""


@attrs.frozen(eq=False)
class Probes:
    """Probe vectors for the divergence tr J of a vector field with the Jacobian J: weight · Σ_k v_kᵀ J v_k.

    If the entries of v are independent with mean 0 and variance 1, vᵀJv has the mean tr J.
    """

    vectors: Tensor
    """(K, B, C, H, W), with the dtype and device of the score."""
    weight: float
    """1/K for an average; 1 for vectors that form a basis."""

    @classmethod
    def at(cls, places: Tensor, shape: tuple[int, ...], count: int | None, seed: int) -> "Probes":
        """`count` random probes of images at places (B,) int64; None: a basis, which gives the exact divergence."""
        if count is None:
            basis = torch.eye(math.prod(shape), device=places.device).view(-1, 1, *shape)
            return cls(basis.expand(-1, len(places), *shape), weight=1.0)
        stream = Stream(seed, Purpose.PROBES)
        vectors = [probe(stream, places, shape, number) for number in range(count)]
        return cls(torch.stack(vectors), weight=1 / count)

    def of(self, rows: Tensor) -> "Probes":
        """The vectors of some of the images. rows: indices (B',) int64."""
        return Probes(self.vectors[:, rows.to(self.vectors.device)], self.weight)

    def divergence(self, slope: Tensor, x: Tensor, between: Callable[[], None] = never_stop) -> Tensor:
        """Divergence (B,) of `slope`, which was computed from `x`, a leaf with gradients.

        Takes one backward pass per vector. `between` is called before each and can stop by raising.
        """
        total = torch.zeros(len(x), dtype=torch.float64)
        last = len(self.vectors) - 1
        for number, v in enumerate(self.vectors):
            between()
            (product,) = torch.autograd.grad(slope, x, v, retain_graph=number < last)
            total += (product * v).flatten(1).sum(dim=1).cpu().double()
        return self.weight * total


@attrs.frozen(eq=False)
class Flow:
    """Images transported to σ_max, with the integral of the divergence."""

    x: Tensor
    """(B, C, H, W) float64 on the CPU, at σ_max."""
    log_volume: Tensor
    """(B,) float64: integral of the divergence, in nats."""
    evaluations: Tensor
    """(B,) float64: evaluations of the score and its divergence of each image."""


def require_flow(
    name: str, precision: Precision, tolerance: float, *, any_sigma: bool, learns_scores: bool = True
) -> None:
    """Raises NcsnxError for a network without a flow, UsageError for a precision or a tolerance of the solver.

    name: that of the network. any_sigma: whether it takes any σ. learns_scores: whether it is a score network.
    """
    if not learns_scores:
        raise NcsnxError(f"a likelihood needs a score network; {TUNED}")
    if not any_sigma:
        raise NcsnxError(
            f"{name} accepts its trained levels only, and a likelihood needs every σ between them; use a model that "
            "takes any σ, such as ncsnv2 or unet"
        )
    if precision != "fp32":  # bf16 rounds the solver's differences away
        raise UsageError(f"a likelihood needs a network in fp32, not {precision}; load it with precision='fp32'")
    if not 1e-6 <= tolerance <= 0.1:
        raise UsageError(f"{parameter('tolerance')} must be between 1e-6 and 0.1, not {tolerance:g}")


@attrs.frozen(eq=False)
class ProbabilityFlow:
    """The ODE of a differentiable model between two noise levels."""

    model: ScaledScore
    sigma_min: float
    sigma_max: float
    tolerance: float = attrs.field(kw_only=True)
    cond: Cond = attrs.field(default=NO_COND, kw_only=True)
    """Further inputs of the model for the images."""
    watch: Callable[[float], None] = attrs.field(default=lambda sigma: None, kw_only=True)
    """Called with the lowest σ of the images before each evaluation and each backward pass; can stop by raising."""

    def to_prior(self, x: Tensor, probes: Probes) -> Flow:
        """Solves the ODE from x at σ_min up to σ_max, together with the integral of its divergence.

        x: (B, C, H, W) float64 on the CPU. Each image has its own steps, so that it doesn't depend on its batch: the
        estimated errors of x (root mean square over pixels) and of the divergence per pixel are at most `tolerance`,
        absolute or relative to the value.

        Raises DivergedError, see `solve`.
        """
        shape, dimensions = x.shape[1:], math.prod(x.shape[1:])
        device, dtype = probes.vectors.device, probes.vectors.dtype
        evaluations = torch.zeros(len(x), dtype=torch.float64)

        def slope_of(sigma: Tensor, state: Tensor, rows: Tensor) -> Tensor:
            lowest = float(sigma.min())
            self.watch(lowest)
            evaluations[rows] += 1
            with torch.enable_grad():
                at = state[:, :-1].reshape(-1, *shape).to(dtype).to(device).requires_grad_()
                slope = -self.model(at, sigma.to(at), {name: one[rows] for name, one in self.cond.items()})
                divergence = probes.of(rows).divergence(slope, at, lambda: self.watch(lowest))
            return torch.cat([slope.detach().cpu().double().flatten(1), divergence[:, None] / dimensions], dim=1)

        # the last column is the integral of the divergence per pixel
        start = torch.cat([x.double().flatten(1), torch.zeros(len(x), 1, dtype=torch.float64)], dim=1)
        state = solve(slope_of, start, self.sigma_min, self.sigma_max, tolerance=self.tolerance, norm=_error)
        return Flow(state[:, :-1].reshape(-1, *shape), state[:, -1] * dimensions, evaluations)


def log_normal(x: Tensor, mean: float, sigma: float) -> Tensor:
    """Log density of N(mean, σ² I) at x, (B, …): (B,)."""
    z = ((x - mean) / sigma).flatten(1)
    return -0.5 * z.square().sum(dim=1) - z.shape[1] * (math.log(sigma) + 0.5 * math.log(2 * math.pi))


def _error(errors: Tensor) -> Tensor:
    """Error (B,) of each image, in x or in its divergence, from (B, D + 1) errors relative to the tolerance."""
    return torch.maximum(rms_error(errors[:, :-1]), errors[:, -1].abs())


def bits_per_dimension(
    flow: ProbabilityFlow, pixels: Tensor, positions: Tensor, preprocessing: Preprocessing, probes: Probes
) -> Tensor:
    """Bits per dimension of stored pixels (B, C, H, W), with their parts: (B, 5) float64 with the columns COLUMNS.

    positions: (B,) int64, the positions that the dequantization noise is drawn at. Raises DivergedError, see `solve`.
    """
    space, values = preprocessing.space, preprocessing.continuous(pixels, positions)
    end = flow.to_prior(space.encode(values), probes)
    bits_of_nats = -1 / (math.prod(space.shape) * math.log(2))
    prior = bits_of_nats * log_normal(end.x, space.center, flow.sigma_max)
    volume = bits_of_nats * end.log_volume
    scale = math.log2(preprocessing.gray_levels(pixels)) + bits_of_nats * space.log_slope(values)
    return torch.stack([prior + volume + scale, prior, volume, scale, end.evaluations], dim=1)


def probe(stream: Stream, places: Tensor, shape: tuple[int, ...], number: int) -> Tensor:
    """Probe vector `number` of each image, (B, *shape) float32: a function of the seed, the image's place and `number`.

    Each entry is −1 or 1 with equal probability (Hutchinson 1989), with the variance 2(‖S‖² − Σ S_ii²) of the estimate,
    where S is the symmetric part of the Jacobian.
    """
    return 1 - 2 * (stream.uniform(places, shape, step=number) < 0.5).float()
