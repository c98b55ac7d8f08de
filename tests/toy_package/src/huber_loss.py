"""The Huber loss of σ s(x̃, σ) and −z, for x̃ = x + σz."""

from huber_config import Huber
from torch.nn.functional import huber_loss

from ncsnx.training.losses import loss


@loss(Huber)
def huber(experiment, space):
    delta = experiment.loss.delta

    def of(network, x, sigma, noise, cond, step=None):
        score = network.scaled_score(x + sigma.view(-1, 1, 1, 1) * noise, sigma, cond)
        return huber_loss(score, -noise, reduction="none", delta=delta).flatten(1).sum(dim=1)

    return of
