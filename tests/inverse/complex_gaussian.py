"""A complex Gaussian, measured by several coils: samples against the closed form, for every rule and sampler.

    python -m tests.inverse.complex_gaussian

prints the table of docs/project/inverse-problems.md. Images are 24×16 with real and imaginary part (768 values), smooth
(correlations e^{−d/4} at the distance d), with a standard deviation of 0.25 around 0.5 and the exact score; 4 simulated
coils, every third column of frequencies and the middle four, noise of 0.02. The network's range is [0, 1].
"""

import sys
import time
from collections.abc import Iterator, Mapping
from functools import cached_property

import attrs
import torch
from torch import Tensor

from ncsnx.config import (
    AnnealedLangevin,
    ConsistentAnnealed,
    DPMSolverPP,
    DPMSolverPPSDE,
    EulerAncestral,
    Heun,
    Karras,
    PredictorCorrector,
    ProbabilityFlowODE,
    Sampler,
)
from ncsnx.errors import NcsnxError
from ncsnx.inverse.operators.coils import Sense, simulated_maps
from ncsnx.inverse.operators.measurement_map import LinearMap, in_single_precision
from ncsnx.inverse.rules.likelihood import AnnealedLikelihood, DataConsistency, DiffusionPosterior, LikelihoodRule
from ncsnx.samplers.building import build_sampler, first_sigma
from ncsnx.sampling.generation import SeededNoise, initial_normal
from tests.samplers.toy import scaled

MEAN, DEVIATION, LENGTH, NOISE = 0.5, 0.25, 4.0, 0.02
LEVELS = tuple(30.0 * (0.005 / 30.0) ** (number / 119) for number in range(120))
RULES: Mapping[str, type[LikelihoodRule]] = {
    "langevin": AnnealedLikelihood,
    "cg": DataConsistency,
    "dps": DiffusionPosterior,
}
SAMPLERS: Mapping[str, Sampler] = {
    "`ald`, 120 levels × 3": AnnealedLangevin(step_size=0.3 * LEVELS[-1] ** 2, steps_per_level=3),
    "`pc`": PredictorCorrector(steps=100),
    "`cas`": ConsistentAnnealed(steps=100),
    "`euler-ancestral`": EulerAncestral(steps=100),
    "`dpmpp-sde`": DPMSolverPPSDE(steps=100),
    "`heun`, churn 40": Heun(steps=100, churn=40),
    "`heun`": Heun(steps=50),
    "`dpmpp`": DPMSolverPP(steps=100),
    "`ode`": ProbabilityFlowODE(steps=2, tolerance=1e-3, grid=Karras()),
}


@attrs.frozen(eq=False)
class Problem:
    """The data, one measurement y of an image of it, and the posterior."""

    map: LinearMap
    noise: float = NOISE
    seed: int = 0

    @cached_property
    def spatial(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues and eigenvectors of the covariance of real and imaginary part."""
        _, height, width = self.map.shape
        places = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"), dim=-1)
        away = torch.cdist(places.view(-1, 2).double(), places.view(-1, 2).double())
        values, axes = torch.linalg.eigh(DEVIATION**2 * torch.exp(-away / LENGTH))
        return values.clamp_min(1e-12), axes

    def score(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """The exact score, (B, C, H, W)."""
        values, axes = (part.to(x) for part in self.spatial)
        level = sigma.view(-1, 1, 1) if isinstance(sigma, Tensor) else sigma
        along = (x.flatten(2) - MEAN) @ axes
        return -((along / (values + level**2)) @ axes.T).view_as(x)

    @cached_property
    def prior(self) -> Tensor:
        """Covariance of the data, (N, N)."""
        values, axes = self.spatial
        return torch.block_diag(*[(axes * values) @ axes.T] * self.map.shape[0])

    @cached_property
    def normal(self) -> Tensor:
        """Aᴴ A, (N, N)."""
        size = len(self.prior)
        return self.map.normal(torch.eye(size).double().view(size, *self.map.shape)).flatten(1)

    @cached_property
    def y(self) -> Tensor:
        """The measurement, (1, coils, H, W)."""
        generator = torch.Generator().manual_seed(self.seed)
        values, axes = self.spatial
        channels, height, width = self.map.shape
        drawn = torch.randn(channels, len(values), generator=generator, dtype=torch.float64) * values.sqrt()
        truth = MEAN + (drawn @ axes.T).view(1, channels, height, width)
        clean = self.map.apply(truth)
        parts = torch.randn(*clean.shape, 2, generator=generator, dtype=torch.float64)
        noise = torch.view_as_complex(parts) if clean.is_complex() else parts[..., 0]
        return clean + self.noise * noise * (clean != 0)

    @cached_property
    def posterior(self) -> tuple[Tensor, Tensor]:
        """Mean (N,) and covariance (N, N)."""
        precision = torch.linalg.inv(self.prior) + self.normal / self.noise**2
        covariance = torch.linalg.inv(precision)
        mean = torch.full((len(precision),), MEAN).double()
        away = self.map.adjoint(self.y).flatten() - self.normal @ mean
        return mean + covariance @ away / self.noise**2, covariance

    def drawn(self, rule: type[LikelihoodRule], sampler: Sampler, count: int, seed: int = 0) -> tuple[Tensor, float]:
        """Images (count, N), and the evaluations of each."""
        indices = torch.arange(count)
        y = in_single_precision(self.y).expand(count, *[-1] * (self.y.dim() - 1))
        made = rule(map=self.map, y=y, noise=self.noise, norm=self.map.norm)
        x = initial_normal(seed, indices, self.map.shape, mean=MEAN, sigma=first_sigma(sampler, LEVELS))
        noise = SeededNoise(seed, indices, self.map.shape)
        *_, last = build_sampler(sampler)(scaled(self.score), x, LEVELS, noise=noise, rule=made)
        return last.x.double().flatten(1), last.evaluations

    def judged(self, images: Tensor) -> "Judgement":
        """How far the images are from the posterior."""
        mean, covariance = self.posterior
        found, axes = torch.linalg.eigh(self.normal)
        away = images.mean(dim=0) - mean
        distance = (MEAN - mean).square().sum()
        chance = covariance.trace() / len(images)  # of the mean of that many images
        ratios = ((images - images.mean(dim=0)) @ axes).square().sum(dim=0) / (len(images) - 1)
        ratios = ratios / ((axes.T @ covariance) * axes.T).sum(dim=1)
        seen = found > 0.3 * found[-1]
        return Judgement(
            float(((away.square().sum() - chance).clamp_min(0) / distance).sqrt()),
            float(ratios[seen].mean()),
            float(ratios[~seen].mean()),
        )


@attrs.frozen
class Judgement:
    """Errors of samples; those of perfect ones are 0, 1 and 1."""

    mean: float
    """Error of the mean beyond chance, as a fraction of the way from the prior's mean to the posterior's."""
    measured: float
    """Variance along the measured directions (eigenvalues of Aᴴ A above 0.3 of the largest), as a multiple of the
    posterior's, on average."""
    rest: float
    """The same along the other directions."""


def coils_problem(size: tuple[int, int] = (24, 16), seed: int = 0) -> Problem:
    """The problem of the table, or a smaller one."""
    mask = torch.zeros(size, dtype=torch.bool)
    mask[:, ::3] = True
    mask[:, [0, 1, -1, -2]] = True
    return Problem(Sense(simulated_maps(size, 4), mask), seed=seed)


def rows(count: int, rules: Mapping[str, type[LikelihoodRule]] = RULES) -> Iterator[str]:
    """The table, line by line."""
    problem = coils_problem()
    yield "| rule | sampler | evaluations | error of the mean | variance, measured | variance, rest | s |"
    yield "|---|---|---|---|---|---|---|"
    for name, rule in rules.items():
        for title, sampler in SAMPLERS.items():
            begin = time.perf_counter()
            try:
                images, evaluations = problem.drawn(rule, sampler, count)
            except NcsnxError:
                yield f"| `{name}` | {title} | refused | | | | |"
                continue
            took = time.perf_counter() - begin
            judged = problem.judged(images)
            yield (
                f"| `{name}` | {title} | {evaluations:,.0f} | {judged.mean:.3f} | {judged.measured:.2f} | "
                f"{judged.rest:.2f} | {took:.1f} |"
            )


if __name__ == "__main__":
    for line in rows(int(sys.argv[1]) if len(sys.argv) > 1 else 200):
        print(line, flush=True)
