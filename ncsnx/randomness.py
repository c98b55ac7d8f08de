"""Counter-based random numbers: every draw is a pure function of (seed, purpose, step, position, element).

The generator is Philox4x32-10, a keyed bijection of 128-bit counters (Salmon, Moraes, Dror & Shaw, "Parallel
Random Numbers: As Easy as 1, 2, 3", SC 2011), written in torch's integer operations. A draw depends on no state:
neither on its batch or earlier draws, nor on worker, rank or device.

Eager code draws normals by 94 passes over memory; `Stream(…, compiled=True)` by one compiled kernel.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from functools import cache, lru_cache

import attrs
import numpy as np
import torch
from torch import Tensor

from ncsnx.stopping import check_stop

_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)
_WORD = 2**32
_MASK = _WORD - 1
_UNIFORM_BITS = 24  # a float32 holds 24 bits exactly


class Purpose(IntEnum):
    """Purpose of a draw: the second word of the key. The numbers are frozen, since saved runs depend on them."""

    DATA_ORDER = 1
    FLIP = 2
    DEQUANTIZATION = 3
    NOISE_LEVEL = 4
    TRAINING_NOISE = 5
    HELD_OUT_NOISE = 6
    WEIGHTS = 7
    INITIAL_SAMPLE = 8
    SAMPLER_NOISE = 9
    INTERPOLATION_NOISE = 10
    SAMPLE_DATA = 11
    FEATURE_WEIGHTS = 12
    FEATURE_ORDER = 13
    FEATURE_AUGMENTATION = 14
    SUBSETS = 15
    CROP = 16
    PAIRS = 17
    PROBES = 18
    MEASUREMENT_NOISE = 19
    SIMULATED_COILS = 20
    PHANTOMS = 21
    AUGMENTATION = 22
    DROPOUT = 23
    CLASS_DROPOUT = 24


def _in_one_word(_: object, attribute: "attrs.Attribute[int]", value: int) -> None:
    _require_word(attribute.name, value)


def _require_word(name: str, value: int) -> None:
    if not 0 <= value < _WORD:
        raise ValueError(f"{name} must be from 0 to {_MASK} (32 bits), not {value}")


_ELEMENTS_AT_ONCE = 2**22
"""Elements of an item that are drawn at once, each of which takes some 50 bytes meanwhile."""
_KEYS_AT_ONCE = 2**18
"""Keys of a permutation that are drawn at once, each of which takes some 100 bytes meanwhile."""


@attrs.frozen
class Stream:
    """The draws of one purpose under one seed.

    `positions` is (B,) int64: the index of each item in its stream (an image of the training stream, a sample), on the
    device where the result is wanted. Element e of an item is word e % 4 of the Philox block with key (seed, purpose)
    and counter (e // 4, position's low word, position's high word, step). So a longer draw begins with the elements of
    a shorter one, and items can be split over calls in any way.

    `step` is a number of 32 bits, or a 0-dim int64 tensor of one on the device of the positions, which isn't checked.
    """

    seed: int = attrs.field(validator=_in_one_word)
    purpose: Purpose
    compiled: bool = False
    """Draw normals by `torch.compile`: equal words, normals to 1e-6. Compiles at the first draw."""
    drawn: Mapping[int, Tensor] = attrs.field(factory=dict, eq=False, repr=False)
    """Step → its first words, drawn by `drawn_together`."""

    def words(self, positions: Tensor, count: int, step: int | Tensor = 0, *, first: int = 0) -> Tensor:
        """(B, count) int64, uniform in [0, 2**32), from element `first` on, a multiple of 4.

        Raises ValueError for a number `step` that needs over 32 bits.
        """
        drawn = self.drawn.get(step) if isinstance(step, int) else None
        if drawn is not None and drawn.shape[1] >= first + count:
            return drawn[:, first : first + count]
        multipliers, round_keys = self._constants(positions)
        blocks = first // 4 + torch.arange(-(-count // 4), device=positions.device)
        counter = _counter(positions, _counted_step(step, positions.device), blocks)
        return _philox(counter, multipliers, round_keys[..., None, None]).flatten(1)[:, :count]

    def uniform(self, positions: Tensor, shape: tuple[int, ...], step: int | Tensor = 0) -> Tensor:
        """(B, *shape) float32 in [0, 1): multiples of 2**-24, the top 24 bits of each word."""
        return _unit(self.words(positions, math.prod(shape), step)).reshape(-1, *shape)

    def normal(self, positions: Tensor, shape: tuple[int, ...], step: int | Tensor = 0) -> Tensor:
        """(B, *shape) float32, standard normal by Box & Muller (1958).

        Elements 2k and 2k + 1 are √(−2 ln u)·cos 2πv and √(−2 ln u)·sin 2πv of words 2k and 2k + 1. u, which is
        (word + 1)/2**32 rounded to float32, lies in (0, 1], so the largest magnitude is √(64 ln 2) = 6.66; a true
        normal exceeds it once in 4e10 draws. Devices agree on u and v exactly, and on the result to the accuracy of
        their logarithm and cosine.
        """
        count = math.prod(shape)
        if self.compiled:
            number = _counted_step(step, positions.device)
            return _compiled_normals()(positions, number, *self._constants(positions), count).reshape(-1, *shape)
        parts = []
        for first in range(0, count, _ELEMENTS_AT_ONCE):
            if first:
                check_stop()  # a part takes a second
            size = min(_ELEMENTS_AT_ONCE, count + count % 2 - first)
            words = self.words(positions, size, step, first=first).reshape(len(positions), -1, 2)
            parts.append(torch.stack(_box_muller(words[..., 0], words[..., 1]), dim=-1).flatten(1))
        whole = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return whole[:, :count].reshape(-1, *shape)

    def _constants(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        return _constants((self.seed, int(self.purpose)), positions.device)

    def integers(self, positions: Tensor, high: int, shape: tuple[int, ...] = (), step: int | Tensor = 0) -> Tensor:
        """(B, *shape) int64 in [0, high): ⌊word · high / 2**32⌋. Raises ValueError unless 0 < high <= 2**31.

        ⌊2**32/high⌋ words or one more map to each integer, so that probabilities are off by a factor of at most
        1 ± high/2**32: 5e-7 for 2,311 noise levels, 1e-5 for 50,000 images.
        """
        if not 0 < high <= 2**31:
            raise ValueError(f"high must be from 1 to {2**31}, not {high}")
        return (self.words(positions, math.prod(shape), step) * high >> 32).reshape(-1, *shape)

    def masks(
        self,
        positions: Tensor,
        chance: float,
        shapes: Sequence[tuple[int, int, int]],
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> list[Tensor]:
        """Masks (B, C, H, W) bool of these shapes (C, H, W), each value True with this chance, to 2**-30.

        A value is whether the product of a word of its channel and one of its place, both made odd, is below
        chance · 2**32, modulo 2**32. So C + H·W words, all of step 0, make a mask in two operations. Odd numbers are a
        group under this product: any three values of an image's masks are independent. Of four in two channels at two
        places the last product follows from the others, but hardly whether it is below a bound.
        """
        counts = [count for channels, height, width in shapes for count in (channels, height * width)]
        # as int32, whose products wrap
        words = (self.words(positions, sum(counts)) - _WORD // 2).to(torch.int32).bitwise_or_(1)
        parts, made = iter(torch.split(words, counts, dim=1)), list[Tensor]()
        for channels, height, width in shapes:
            product = torch.empty(
                (len(positions), channels, height, width),
                dtype=torch.int32,
                device=positions.device,
                memory_format=memory_format,
            )
            of_channels, of_places = next(parts), next(parts)
            torch.mul(of_channels[:, :, None, None], of_places.reshape(-1, 1, height, width), out=product)
            made.append(product < min(round(chance * _WORD), _MASK) - _WORD // 2)
        return made

    def permutation(self, n: int, epoch: int) -> Tensor:
        """(n,) int64 on the CPU: 0 … n − 1 in the random order of this epoch, by sorting 63-bit keys.

        Equal keys (a pair with probability below n²/2**64) stay in order. Takes 24 bytes per number.
        """
        return torch.from_numpy(np.argsort(self._keys(n, epoch).numpy(), kind="stable"))

    def choice(self, n: int, count: int, epoch: int) -> Tensor:
        """The first `count` of the permutation, without ordering the others. Takes 16 bytes per number."""
        if count >= n:
            return self.permutation(n, epoch)
        keys = self._keys(n, epoch).numpy()
        first = np.argpartition(keys, count)[:count]
        return torch.from_numpy(first[np.argsort(keys[first])])

    def _keys(self, n: int, epoch: int) -> Tensor:
        """(n,) int64, 63 random bits for each number."""
        keys, place = torch.empty(n, dtype=torch.int64), torch.tensor([epoch])
        for first in range(0, n, _KEYS_AT_ONCE):
            part = keys[first : first + _KEYS_AT_ONCE]
            words = self.words(place, 2 * len(part), first=2 * first).view(-1, 2)
            torch.bitwise_or(words[:, 0] << 31, words[:, 1] >> 1, out=part)
        return keys


def drawn_together(
    seed: int, positions: Tensor, counts: Mapping[tuple[Purpose, int], int]
) -> Callable[[Purpose], Stream]:
    """The streams of a seed by purpose, for draws at these positions alone.

    The first words of some (purpose, step), as many as `counts` says, are drawn in one call, which on a GPU takes as
    long as that of one purpose.
    """
    draws = tuple((int(purpose), step, -(-count // 4)) for (purpose, step), count in counts.items())
    multipliers, round_keys, steps, blocks = _constants_together(seed, draws, positions.device)
    words = _philox(_counter(positions, steps, blocks), multipliers, round_keys).flatten(1)
    drawn: dict[Purpose, dict[int, Tensor]] = {}
    parts = torch.split(words, [4 * blocks for _, _, blocks in draws], dim=1)
    for (purpose, step), part in zip(counts, parts, strict=True):
        drawn.setdefault(purpose, {})[step] = part
    return lambda purpose: Stream(seed, purpose, drawn=drawn.get(purpose, {}))


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> Tensor:
    """Philox4x32-10 of each counter: (*S, 4) int64.

    counter: four int64 tensors of one shape S, words in [0, 2**32).
    """
    multipliers, round_keys = _constants(key, counter[0].device)
    return _philox(counter, multipliers, round_keys.view(_ROUNDS, 2, *(1 for _ in counter[0].shape)))


def _philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], multipliers: Tensor, round_keys: Tensor) -> Tensor:
    """The two lanes of a round are stacked: int64 wraps modulo 2**64, and masking after the arithmetic shift gives the
    true high word. The low words are products, of which only the low halves count."""
    multiplied = torch.stack((counter[0], counter[2]))
    low = torch.stack((counter[1], counter[3]))
    for round_key in round_keys:
        product = torch.empty_like(multiplied)
        for lane in (0, 1):
            torch.mul(multiplied[lane], multipliers[lane], out=product[1 - lane])
        multiplied = (product >> 32).bitwise_xor_(low).bitwise_xor_(round_key).bitwise_and_(_MASK)
        low = product
    low.bitwise_and_(_MASK)
    return torch.stack((multiplied[0], low[0], multiplied[1], low[1]), dim=-1)


def _counter(positions: Tensor, step: Tensor, blocks: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The counters of blocks with these numbers, (blocks,), and steps: four words, each (B, blocks)."""
    elements = blocks.expand(len(positions), len(blocks))
    place = positions[:, None].expand_as(elements)
    return elements, place & _MASK, (place >> 32) & _MASK, step.expand_as(elements)


def _lane_normals(positions: Tensor, step: Tensor, multipliers: Tensor, round_keys: Tensor, count: int) -> Tensor:
    """The normals with one tensor per word of a block, which the compiler fuses into one kernel; stacked lanes it
    doesn't."""
    a, b, c, d = _counter(positions, step, torch.arange(-(-count // 4), device=positions.device))
    for first, second in round_keys:
        left, right = a * multipliers[0], c * multipliers[1]
        a, c = ((right >> 32) & _MASK) ^ b ^ first, ((left >> 32) & _MASK) ^ d ^ second
        b, d = right & _MASK, left & _MASK
    return torch.stack((*_box_muller(a, b), *_box_muller(c, d)), dim=-1).flatten(1)[:, :count]


def _box_muller(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    radius = ((first + 1).float() * 2.0**-32).log().mul(-2).sqrt()
    angle = _unit(second) * (2 * math.pi)
    return radius * angle.cos(), radius * angle.sin()


@cache
def _compiled_normals() -> Callable[..., Tensor]:
    """One kernel for all batch sizes, seeds and steps."""
    return torch.compile(_lane_normals, dynamic=True, fullgraph=True)


def _counted_step(step: int | Tensor, device: torch.device) -> Tensor:
    """`step` as a 0-dimensional int64 tensor on the device; filled there, since a copy to a GPU would wait."""
    if isinstance(step, Tensor):
        return step
    _require_word("step", step)
    return torch.full((), step, dtype=torch.int64, device=device)


@lru_cache(maxsize=1_024)
def _constants(key: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Multipliers (2,) and round keys (rounds, 2); cached, since a copy to the GPU would make every draw wait."""
    return torch.tensor(_MULTIPLIERS, device=device), torch.tensor(_round_keys(key), device=device)


@lru_cache(maxsize=4)
def _constants_together(
    seed: int, draws: tuple[tuple[int, int, int], ...], device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Multipliers, and of each block round keys (rounds, 2, 1, blocks), steps and numbers, (blocks,).

    draws: (purpose, step, blocks).
    """
    counts = torch.tensor([blocks for _, _, blocks in draws])
    keys = torch.tensor([_round_keys((seed, purpose)) for purpose, _, _ in draws]).permute(1, 2, 0)[:, :, None]
    steps = torch.tensor([step for _, step, _ in draws])
    parts = keys.repeat_interleave(counts, dim=3), steps.repeat_interleave(counts)
    numbers = torch.cat([torch.arange(blocks) for _, _, blocks in draws])
    return torch.tensor(_MULTIPLIERS, device=device), parts[0].to(device), parts[1].to(device), numbers.to(device)


def _round_keys(key: tuple[int, int]) -> list[list[int]]:
    return [
        [(word + number * increment) & _MASK for word, increment in zip(key, _KEY_INCREMENTS, strict=True)]
        for number in range(_ROUNDS)
    ]


def _unit(words: Tensor) -> Tensor:
    return (words >> (32 - _UNIFORM_BITS)).float() * 2.0**-_UNIFORM_BITS
