"""Sampling any number of images in batches: image i depends only on the seed of the draws and i."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ncsnx.errors import DivergedError, Hint
from ncsnx.images import to_uint8
from ncsnx.networks.contract import NO_COND, Cond
from ncsnx.ranks.rank_group import never_stop
from ncsnx.ranks.shared_batches import batches_of
from ncsnx.samplers.state import SamplerFunction, ScaledScore, State
from ncsnx.sampling.draws import Draws


def ignore_state(indices: Sequence[int], state: State) -> None:
    """A consumer of states that does nothing."""


def indices_per_batch(batch_size: int, columns: int) -> int:
    """Indices per batch of `generate`, with `columns` images each: at least one."""
    return max(1, batch_size // columns)


@torch.no_grad()
def generate(
    sampler: SamplerFunction,
    model: ScaledScore,
    sigmas: Sequence[float],
    draws: Draws,
    indices: Sequence[int],
    *,
    batch_size: int,
    device: torch.device,
    check_stop: Callable[[], None] = never_stop,
    on_state: Callable[[Sequence[int], State], None] = ignore_state,
) -> Iterator[tuple[Sequence[int], Tensor]]:
    """Yields (indices of a batch, its final x: (len · draws.columns, C, H, W) in the network's range).

    indices: indices of the images (rows, for interpolation), each sampled once, in this order; those of a batch are
    consecutive. batch_size: images per batch, with draws.columns images per index and at least one index. check_stop is
    called before each network evaluation and raises to end the sampling. on_state gets (indices of the batch, state).
    Raises DivergedError if an image contains NaN or infinity.
    """

    def stoppable(x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        check_stop()
        return model(x, sigma, cond)

    for batch in batches_of(indices, indices_per_batch(batch_size, draws.columns)):
        positions = torch.tensor(batch, dtype=torch.int64, device=device)
        constrain = None if draws.condition is None else draws.condition(positions)
        noise, x = draws.noise(positions), draws.initial(positions)
        cond = NO_COND if draws.cond is None else draws.cond(positions)
        for state in sampler(stoppable, x, sigmas, noise=noise, cond=cond, constrain=constrain):
            on_state(batch, state)
            x = state.x
        if not bool(torch.isfinite(x).all()):
            raise DivergedError(
                f"the sampler diverged: images {batch[0]} to {batch[-1]} contain NaN or infinity",
                Hint(
                    "try smaller or more steps (sampler.step_size, sampler.steps), another sampler or another "
                    "checkpoint"
                ),
            )
        yield batch, x


def frame_steps(states: int, frames: int) -> tuple[int, ...]:
    """Indices of `frames` of a sampler's `states` states, evenly spaced from the first to the last.

    All states if there are fewer; only the last for one frame.
    """
    last = states - 1
    if frames < 2:
        return (last,)[:frames]
    return tuple(sorted({round(i * last / (frames - 1)) for i in range(frames)}))


def frame_of(state: State, indices: Sequence[int], shown: int, to_picture: Callable[[Tensor], Tensor]) -> Tensor:
    """The shown images of a state, (b·columns, C, H, W) uint8 on the CPU: those of the b indices below `shown`.

    to_picture: map from the network's range to [0, 1], black to white.
    """
    are_shown = torch.tensor([index < shown for index in indices], device=state.x.device)
    images = state.x[are_shown.repeat_interleave(len(state.x) // len(indices))]
    return to_uint8(to_picture(images)).cpu()
