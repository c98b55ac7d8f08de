"""Losses: what a network learns from images and noise, and how a loss is registered for its configuration.

    @loss(ScoreMatching)
    def score_matching(experiment: Experiment, space: Space) -> LossFunction: ...

`build_loss` is what training, held-out losses, timing and the check of compiled gradients call. What a loss needs
beside the network, it makes of the experiment and keeps: weights of levels, the noise of the data. It may evaluate the
network itself more than once, also without gradients, as a teacher.
"""

import math
from collections.abc import Callable
from functools import partial, singledispatch
from typing import Protocol, TypeVar, cast

import torch
from torch import Tensor

from ncsnx.config.experiment import Experiment
from ncsnx.config.schedule import LogNormal, Schedule
from ncsnx.config.training import Consistency, CosineDecay, Loss, ScoreMatching
from ncsnx.config.variants import load_plugins
from ncsnx.networks import Cond, Network
from ncsnx.networks.contract import NO_COND
from ncsnx.randomness import Stream
from ncsnx.registering import unregistered
from ncsnx.space import Space


class LossFunction(Protocol):
    """The loss of a network."""

    def __call__(
        self, network: Network, x: Tensor, sigma: Tensor, noise: Tensor, cond: Cond, step: int | None = None
    ) -> Tensor:
        """The loss of each image, (B,) float32: summed over pixels and channels, not averaged over the batch.

        x: data (B, C, H, W) in the network's range. sigma: (B,) float32, at least the noise of the data. noise: z ~
        N(0, 1), of the shape of x.
        cond: what else the network is given in training. step: optimizer steps before; None for held-out losses, which
        don't depend on it. The same arguments give the same loss.
        """


LossMaker = Callable[[Experiment, Space], LossFunction]
M = TypeVar("M", bound=LossMaker)
_makers: dict[type[Loss], LossMaker] = {}


def loss(config: type[Loss]) -> Callable[[M], M]:
    """Registers the decorated maker of a loss. Raises ValueError if the configuration already has one."""

    def registered(maker: M) -> M:
        if config in _makers:
            raise ValueError(f"{config.__qualname__} already has a loss: {_makers[config]!r}")
        _makers[config] = maker
        return maker

    return registered


def build_loss(experiment: Experiment, space: Space) -> LossFunction:
    """The loss of an experiment. Raises NcsnxError for a configuration without a registered loss."""
    kind = type(experiment.loss)
    if kind not in _makers:
        load_plugins("ncsnx.runtime")
    if kind not in _makers:
        raise unregistered("loss", kind, "ncsnx.training.losses.loss")
    return _makers[kind](experiment, space)


Weight = Callable[[Tensor], Tensor | None]
"""σ, (B,) → w(σ), (B,), by which the loss of each image is multiplied; None for 1."""


def score_matching_loss(
    network: Network,
    x: Tensor,
    sigma: Tensor,
    noise: Tensor,
    cond: Cond = NO_COND,
    step: int | None = None,
    weight: Weight = lambda sigma: None,
    noise_of_data: float = 0.0,
) -> Tensor:
    """½ ‖σ s(x̃, σ) + z‖² · w(σ) with x̃ = x + σz of each image, (B,) float32: see `LossFunction`.

    Of images with noise of σ_n, `noise_of_data`: ½ ‖a s(x̃, σ) + z‖² · w(σ) with x̃ = x + az and a² = σ² − σ_n². Then x̃
    is a clean image with noise of σ, and the minimum its score (Kim & Ye 2021, arXiv 2106.07009; Daras et al. 2024,
    arXiv 2404.10177). With a before the score, not 1/a before z, it is bounded down to σ_n, which teaches nothing.
    """
    share: Tensor | float = 1.0  # a/σ
    if noise_of_data:
        share = (1 - (noise_of_data / sigma) ** 2).clamp(min=0).sqrt().view(-1, 1, 1, 1)
    perturbed = x + share * sigma.view(-1, 1, 1, 1) * noise
    residual = share * network.scaled_score(perturbed, sigma, cond) + noise
    loss = 0.5 * residual.square().flatten(1).sum(dim=1)
    return loss if (weights := weight(sigma)) is None else loss * weights


def loss_weight(experiment: Experiment, space: Space) -> Weight:
    """w(σ) = λ(σ)/σ² of score matching: see `ScoreMatching.weighting`."""
    config = cast("ScoreMatching", experiment.loss)
    power = config.power
    if config.weighting == "edm":
        sigma_data = space.known_sigma_data
        return lambda sigma: 2 * (1 + (sigma / sigma_data) ** 2)
    return lambda sigma: None if power == 2 else sigma ** (power - 2)


@loss(ScoreMatching)
def score_matching(experiment: Experiment, space: Space) -> LossFunction:
    """Denoising score matching (Vincent 2011; Song & Ermon 2019, arXiv 1907.05600, equation 5)."""
    return partial(score_matching_loss, weight=loss_weight(experiment, space), noise_of_data=space.noise)


@loss(Consistency)
def consistency(experiment: Experiment, space: Space) -> LossFunction:
    """Consistency tuning, with the network itself, stopped, as the teacher: see `Consistency`.

    Teacher and student get the same noise and `cond`, and so the same masks of dropout. Held-out losses are those
    after all halvings.
    """
    config = cast("Consistency", experiment.loss)
    decay = cast("CosineDecay", experiment.decay)
    halve_every = config.halve_every or max(1, decay.steps // (config.halvings + 1))
    least, c = experiment.schedule.sigma_min, config.huber * math.sqrt(math.prod(space.shape))

    def earlier(sigma: Tensor, step: int | None) -> Tensor:
        """r of each σ, (B,); 0 below the smallest level."""
        halvings = config.halvings if step is None else min(step // halve_every, config.halvings)
        rest = (1 + config.k * torch.sigmoid(-config.b * sigma)) / 2 ** (halvings + 1)
        r = sigma * (1 - rest)
        return torch.where(r < least, 0.0, r)

    def of(network: Network, x: Tensor, sigma: Tensor, noise: Tensor, cond: Cond, step: int | None = None) -> Tensor:
        def end(sigma: Tensor) -> Tensor:
            scale = sigma.view(-1, 1, 1, 1)
            noisy = x + scale * noise
            return noisy + scale * network.scaled_score(noisy, sigma, cond)

        r = earlier(sigma, step)
        with torch.no_grad():
            # where r is 0, the network is evaluated anywhere, so that no shape depends on values
            target = torch.where((r > 0).view(-1, 1, 1, 1), end(torch.where(r > 0, r, sigma)), x)
        squared = (end(sigma) - target).square().flatten(1).sum(dim=1)
        return ((squared + c**2).sqrt() - c) / (sigma - r)

    return of


@singledispatch
def draw_sigmas(
    schedule: Schedule, levels: Tensor, stream: Stream, positions: Tensor, noise_of_data: float = 0.0
) -> Tensor:
    """The σ of the images at these positions of the training stream, (B,) float32: one of the levels, equally likely.

    levels: (L,) float32, the schedule's σ, on the device of the positions. noise_of_data: σ that the images have
    already, which a log-normal σ is added to.
    """
    return levels[stream.integers(positions, len(levels))]


@draw_sigmas.register
def _(schedule: LogNormal, levels: Tensor, stream: Stream, positions: Tensor, noise_of_data: float = 0.0) -> Tensor:
    added = torch.exp(schedule.p_mean + schedule.p_std * stream.normal(positions, (1,))[:, 0])
    return torch.hypot(added, added.new_tensor(noise_of_data)) if noise_of_data else added


def add_gradients(network: Network, loss: Tensor) -> None:
    """Adds the gradients of a loss, 0-dim, to those of the network's weights, in the network's precision."""
    with network.products():
        loss.backward()  # type: ignore[no-untyped-call]
