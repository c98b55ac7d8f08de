"""The rule for measurements that aren't linear: a gradient through the network."""

import torch
from torch import Tensor

from ncsnx.data.transforms import real_parts
from ncsnx.inverse.rules.guidance import Guidance
from ncsnx.samplers.state import Score


class DiffusionPosterior(Guidance):
    """`dps`: g = −∇_x ‖y − h(D(x, σ))‖² / (2 (γ² + σ² ‖h'‖²)), the gradient taken through the network.

    Source: diffusion posterior sampling, Chung et al. 2022 (arXiv 2209.14687), equation 16, for any differentiable h.
    Its free step size ζ/‖y − h(D)‖ belongs to a grid of 1,000 steps. Here a variance takes its place, as in score-based
    data assimilation (Rozet & Louppe 2023, arXiv 2306.10574): the measurement's, and that of h(x_0) given x_σ, at most
    σ² ‖h'‖². So it belongs to σ and serves every sampler, and no step that is stable without it becomes unstable.

    Limits: an evaluation costs two to three times as much, and memory for a backward pass. The variance is the same for
    all measurements: with the largest factor ‖h'‖ it is too large for the others, whose misfit then stays larger. A
    measurement that has several solutions, such as magnitudes alone, may lead different images to different ones.
    """

    def guide(self, score: Score, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(score, likelihood score) for images with black 0 and white 1."""
        with torch.enable_grad():
            at = x.detach().requires_grad_(True)
            s = score(at, sigma)
            away = self.given.to(at.device) - self.map.apply(at + sigma**2 * s)
            (slope,) = torch.autograd.grad(real_parts(away).square().sum(), at)
        variance = self.deviation**2 + (sigma * self.norm) ** 2
        return s.detach(), -slope / (2 * variance)
