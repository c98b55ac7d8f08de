"""Denoising score matching over noise levels (Vincent 2011; Song & Ermon 2019, arXiv 1907.05600, equation 5)."""

from torch import Tensor

from ncsnx.networks import ScoreFunction


def score_matching_loss(network: ScoreFunction, x: Tensor, levels: Tensor, noise: Tensor, power: float = 2.0) -> Tensor:
    """The loss of each image, (B,) float32: summed over pixels and channels, not averaged over the batch.

    x: clean images (B, C, H, W) in the network's range. levels: (B,) int64, 0 is the largest σ. noise: z ~ N(0, 1), of
    the shape of x. power: p. With x̃ = x + σz and the weight λ(σ) = σ^p:

        ½ ‖s(x̃, σ) + z/σ‖² σ^p  =  ½ ‖σ s(x̃, σ) + z‖² σ^(p−2)

    The right-hand side is computed: for p = 2, where all levels have equal weight, it needs no division by σ (NCSNv2's
    network gives σ s directly).
    """
    sigmas = network.sigmas[levels]
    perturbed = x + sigmas.view(-1, 1, 1, 1) * noise
    residual = network.scaled_score(perturbed, levels) + noise
    loss = 0.5 * residual.square().flatten(1).sum(dim=1)
    return loss if power == 2 else loss * sigmas ** (power - 2)


def add_gradients(network: ScoreFunction, loss: Tensor) -> None:
    """Adds the gradients of a loss, 0-dim, to those of the network's weights, in the network's precision."""
    with network.products():
        loss.backward()  # type: ignore[no-untyped-call]
