"""All random parts of sampling, as functions of the image indices, and the images that samplers make of them."""

import math
from collections.abc import Callable, Iterator, Sequence

import attrs
import torch
from torch import Tensor

from ncsnx.config.sampler import Sampler
from ncsnx.data import Dataset, Preprocessing
from ncsnx.errors import DivergedError, Hint, NcsnxError
from ncsnx.images import to_uint8
from ncsnx.networks.contract import NO_COND, Cond
from ncsnx.randomness import Purpose, Stream
from ncsnx.ranks.rank_group import never_stop
from ncsnx.ranks.sharing import batches_of
from ncsnx.samplers.building import first_sigma
from ncsnx.samplers.state import Noise, Rule, SamplerFunction, ScaledScore, State
from ncsnx.space import Space


@attrs.frozen(eq=False, kw_only=True)
class Draws:
    """Initial states and noise of images. Indices are (B,) int64 on the device of the results."""

    initial: Callable[[Tensor], Tensor]
    """indices → initial x, (B·columns, C, H, W)."""
    noise: Callable[[Tensor], Noise]
    """indices → noise source of that shape."""
    cond: Callable[[Tensor], Cond] | None = None
    """indices → further inputs of the network for those images, tensors of that many rows; None: none."""
    rule: Callable[[Tensor], Rule] | None = None
    """indices → how their measurement is used; None: there is none."""
    columns: int = 1
    """Images per index; more than one for interpolation, where an index is a row."""


def in_turn(classes: Sequence[int], indices: Tensor) -> Tensor:
    """The classes of images, (B,) int64: image i is of class i mod their number."""
    return torch.tensor(classes, device=indices.device)[indices % len(classes)]


def seeded_draws(seed: int, space: Space, *, compiled: bool = False) -> Draws:
    """Draws of plain sampling: the initial x and the noise of image i are functions of (seed, i).

    The initial x has values ~ U[0, 1), as published; of unbounded data as wide, around the middle: see `Space.uniform`.
    compiled: whether one compiled kernel draws the noise.
    """
    return Draws(
        initial=lambda indices: space.uniform(Stream(seed, Purpose.INITIAL_SAMPLE).uniform(indices, space.shape)),
        noise=lambda indices: SeededNoise(seed, indices, space.shape, compiled=compiled),
    )


@attrs.frozen(eq=False)
class SeededNoise:
    """Noise of the images `indices` under `seed`."""

    seed: int
    indices: Tensor
    """(B,) int64, on the device of the noise."""
    shape: tuple[int, ...]
    """Shape of an image: (C, H, W)."""
    purpose: Purpose = Purpose.SAMPLER_NOISE
    compiled: bool = False
    """Whether one compiled kernel draws it; see `Stream.compiled`."""

    def __call__(self, k: int) -> Tensor:
        """Draw k: (B, C, H, W) float32, unit normal."""
        return Stream(self.seed, self.purpose, self.compiled).normal(self.indices, self.shape, step=k)


def initial_normal(seed: int, indices: Tensor, shape: tuple[int, ...], *, mean: Tensor | float, sigma: float) -> Tensor:
    """mean + σ z: (B, C, H, W) float32 on the device of `indices`, (B,) int64 of the images. mean: one, (C, 1, 1),
    (C, H, W) or (B, C, H, W)."""
    return mean + sigma * Stream(seed, Purpose.INITIAL_SAMPLE).normal(indices, shape)


def interpolated_noise(p: Noise, q: Noise, columns: int) -> Noise:
    """Noise from p (column 0, exactly) to q in `columns` equal steps of angle.

    p and q give (R, C, H, W), one draw per row; the result (R·columns, C, H, W), flattened as row · columns + column.
    """
    return lambda k: slerp_rows(p(k), q(k), columns)


def slerp_rows(x: Tensor, y: Tensor, columns: int, middle: Tensor | float = 0.0) -> Tensor:
    """x and y, both (R, C, H, W) → (R·columns, C, H, W): from x to y in equal steps of angle around `middle`.

    Normal noise around the middle keeps its distribution. The first column is x exactly.
    """
    middle = middle.to(x.device) if isinstance(middle, Tensor) else middle
    angles = torch.linspace(0, math.pi / 2, columns, dtype=x.dtype, device=x.device)
    theta = angles.view(1, -1, *[1] * (x.dim() - 1))
    between = theta.cos() * (x - middle).unsqueeze(1) + theta.sin() * (y - middle).unsqueeze(1) + middle
    between[:, 0] = x
    return between.flatten(0, 1)


def interpolated(draws: Draws, other: Draws, columns: int, middle: Tensor | float = 0.0) -> Draws:
    """Draws of rows from the images of `draws` (column 0) to those of `other`, in `columns` columns.

    If both have the same `initial`, all columns of a row start from one x, as published. middle: mean of the data,
    around which initial states are interpolated.
    """

    def initial(rows: Tensor) -> Tensor:
        x = draws.initial(rows)
        if other.initial is draws.initial:
            return x.repeat_interleave(columns, dim=0)
        return slerp_rows(x, other.initial(rows), columns, middle)

    def cond(rows: Tensor) -> Cond:
        given = {} if draws.cond is None else draws.cond(rows)
        return {name: one.repeat_interleave(columns, dim=0) for name, one in given.items()}

    return Draws(
        initial=initial,
        noise=lambda rows: interpolated_noise(draws.noise(rows), other.noise(rows), columns),
        cond=cond,
        columns=draws.columns * columns,
    )


_START = 2**32 - 1
"""Step of the noise stream that no sampler reaches; used for the start of a row's other end."""


@attrs.frozen(eq=False)
class TrainingImages:
    """Training images that samplers may start from."""

    dataset: Dataset
    preprocessing: Preprocessing

    def at(self, positions: Tensor) -> Tensor:
        """x of the images at positions (B,) int64, on the device of the positions."""
        pixels = self.dataset.read(positions.cpu()).pixels.to(positions.device)
        return self.preprocessing.space.encode(self.preprocessing.values(pixels))


def sampler_draws(
    sampler: Sampler,
    levels: Sequence[float],
    space: Space,
    seed: int,
    training: TrainingImages | None,
    *,
    compiled: bool = False,
) -> Draws:
    """Initial state and noise of image i under `seed`. levels: those of the network. space: of the images that are
    drawn. compiled: as in `seeded_draws`.

    Raises NcsnxError if the sampler starts from training images and there are none.
    """
    draws = seeded_draws(seed, space, compiled=compiled)
    if sampler.start == "noise":
        mean, sigma = space.start_mean(), first_sigma(sampler, levels)
        return attrs.evolve(
            draws,
            initial=lambda indices: initial_normal(
                seed, indices, space.shape, mean=mean.to(indices.device), sigma=sigma
            ),
        )
    if sampler.start != "data":
        return draws
    if training is None:
        raise NcsnxError("the sampler starts from training images (data_init), but there are none")
    images = training

    def initial(indices: Tensor) -> Tensor:
        chosen = Stream(seed, Purpose.SAMPLE_DATA).integers(indices, len(images.dataset))
        return initial_normal(seed, indices, space.shape, mean=images.at(chosen), sigma=levels[0])

    return attrs.evolve(draws, initial=initial)


def other_ends(draws: Draws, sampler: Sampler, levels: Sequence[float], space: Space, seed: int) -> Draws:
    """Draws of the other ends of the rows of `draws` (under `seed`): of noise that is independent of the samplers' own.

    Initial noise of the first level is another one too, since otherwise all images of a row would be equal for a
    sampler without further noise. Uniform starts and training images stay the same along a row, as published.
    """
    draws = attrs.evolve(draws, noise=lambda rows: SeededNoise(seed, rows, space.shape, Purpose.INTERPOLATION_NOISE))
    if sampler.start != "noise":
        return draws
    sigma, middle, stream = first_sigma(sampler, levels), space.start_mean(), Stream(seed, Purpose.INTERPOLATION_NOISE)
    return attrs.evolve(
        draws,
        initial=lambda rows: middle.to(rows.device) + sigma * stream.normal(rows, space.shape, step=_START),
    )


def ignore_state(indices: Sequence[int], state: State) -> None:
    """A consumer of states that does nothing."""


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

    for batch in batches_of(indices, max(1, batch_size // draws.columns)):
        positions = torch.tensor(batch, dtype=torch.int64, device=device)
        rule = None if draws.rule is None else draws.rule(positions)
        noise, x = draws.noise(positions), draws.initial(positions)
        cond = NO_COND if draws.cond is None else draws.cond(positions)
        for state in sampler(stoppable, x, sigmas, noise=noise, cond=cond, rule=rule):
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
