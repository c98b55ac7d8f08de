"""Sampling any number of images in batches: image i depends only on the seed of the draws and i."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ncsnx.errors import DivergedError, Hint, NcsnxError
from ncsnx.samplers.state import SamplerFunction, Score, State
from ncsnx.sampling.draws import Draws


def ignore_state(indices: Sequence[int], state: State) -> None:
    """A consumer of states that does nothing."""


def never_stop() -> None:
    """A stop check that never stops."""


def indices_per_batch(batch_size: int, columns: int) -> int:
    """Indices per batch of `generate`, with `columns` images each: at least one."""
    return max(1, batch_size // columns)


@torch.no_grad()
def generate(
    sampler: SamplerFunction,
    score: Score,
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

    indices: indices of the images (rows, for interpolation), each sampled once, in this order. batch_size: images per
    batch, with draws.columns images per index and at least one index. check_stop is called before each network
    evaluation and raises to end the sampling. on_state gets (indices of the batch, state). Raises DivergedError if an
    image contains NaN or infinity.
    """

    def stoppable_score(x: Tensor, sigma: float | Tensor) -> Tensor:
        check_stop()
        return score(x, sigma)

    per_batch = indices_per_batch(batch_size, draws.columns)
    for start in range(0, len(indices), per_batch):
        batch = indices[start : start + per_batch]
        positions = torch.tensor(batch, dtype=torch.int64, device=device)
        constrain = None if draws.condition is None else draws.condition(positions)
        noise = draws.noise(positions)
        states = sampler(stoppable_score, draws.initial(positions), sigmas, noise=noise, constrain=constrain)
        yield batch, _final(states, batch, on_state)


def _final(states: Iterator[State], batch: Sequence[int], on_state: Callable[[Sequence[int], State], None]) -> Tensor:
    state = None
    for state in states:
        on_state(batch, state)
    if state is None:
        raise NcsnxError("the sampler yielded no state; its last state must be the result")
    if not bool(torch.isfinite(state.x).all()):
        raise DivergedError(
            f"the sampler diverged: images {batch[0]} to {batch[-1]} contain NaN or infinity",
            Hint("try smaller or more steps (sampler.step_size, sampler.steps), another sampler or another checkpoint"),
        )
    return state.x
