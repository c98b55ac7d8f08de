"""Counter-based random numbers: every draw is a pure function of (seed, purpose, step, position, element).

The generator is Philox4x32-10, a keyed bijection of 128-bit counters (Salmon, Moraes, Dror & Shaw, "Parallel
Random Numbers: As Easy as 1, 2, 3", SC 2011), written in torch's integer operations. A draw depends on no state:
neither on its batch or earlier draws, nor on worker, rank or device.
"""

import math
from enum import IntEnum
from functools import lru_cache

import attrs
import torch
from torch import Tensor

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
    CONDITION_NOISE = 19


def _in_one_word(_: object, attribute: "attrs.Attribute[int]", value: int) -> None:
    _require_word(attribute.name, value)


def _require_word(name: str, value: int) -> None:
    if not 0 <= value < _WORD:
        raise ValueError(f"{name} must be from 0 to {_MASK} (32 bits), not {value}")


@attrs.frozen
class Stream:
    """The draws of one purpose under one seed.

    `positions` is (B,) int64: the index of each item in its stream (an image of the training stream, a sample), on the
    device where the result is wanted. Element e of an item is word e % 4 of the Philox block with key (seed, purpose)
    and counter (e // 4, position's low word, position's high word, step). So a longer draw begins with the elements of
    a shorter one, and items can be split over calls in any way.

    `step` is an integer, or a 0-dim int64 tensor on the device of `positions`. The draws are equal; a tensor keeps a
    captured CUDA graph right, where an integer would be baked in.
    """

    seed: int = attrs.field(validator=_in_one_word)
    purpose: Purpose

    def words(self, positions: Tensor, count: int, step: int | Tensor = 0) -> Tensor:
        """(B, count) int64, uniform in [0, 2**32). Raises ValueError unless `step` fits into 32 bits.

        A step in a tensor is taken modulo 2**32, since reading its value would wait for the device.
        """
        blocks = -(-count // 4)
        elements = torch.arange(blocks, device=positions.device).expand(len(positions), blocks)
        place = positions[:, None].expand_as(elements)
        counter = (elements, place & _MASK, (place >> 32) & _MASK, _step_word(step, elements))
        return philox(counter, (self.seed, int(self.purpose))).flatten(1)[:, :count]

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
        pairs = self.words(positions, count + count % 2, step).reshape(len(positions), -1, 2)
        radius = ((pairs[..., 0] + 1).float() * 2.0**-32).log().mul(-2).sqrt()
        angle = _unit(pairs[..., 1]) * (2 * math.pi)
        both = torch.stack((radius * angle.cos(), radius * angle.sin()), dim=-1)
        return both.flatten(1)[:, :count].reshape(-1, *shape)

    def integers(self, positions: Tensor, high: int, shape: tuple[int, ...] = (), step: int | Tensor = 0) -> Tensor:
        """(B, *shape) int64 in [0, high): ⌊word · high / 2**32⌋. Raises ValueError unless 0 < high <= 2**31.

        ⌊2**32/high⌋ words or one more map to each integer, so that probabilities are off by a factor of at most
        1 ± high/2**32: 5e-7 for 2,311 noise levels, 1e-5 for 50,000 images.
        """
        if not 0 < high <= 2**31:
            raise ValueError(f"high must be from 1 to {2**31}, not {high}")
        return (self.words(positions, math.prod(shape), step) * high >> 32).reshape(-1, *shape)

    def permutation(self, n: int, epoch: int) -> Tensor:
        """(n,) int64 on the CPU: 0 … n − 1 in the random order of this epoch, by sorting 63-bit keys.

        Equal keys (a pair with probability below n²/2**64) stay in order.
        """
        words = self.words(torch.tensor([epoch]), 2 * n).view(n, 2)
        return torch.argsort(words[:, 0] << 31 | words[:, 1] >> 1, stable=True)


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> Tensor:
    """Philox4x32-10 of each counter: (*S, 4) int64.

    counter: four int64 tensors of one shape S, words in [0, 2**32). The two lanes of a round are stacked into one
    multiplication: int64 wraps modulo 2**64, and masking after the arithmetic shift gives the true high word.
    """
    lanes = (2,) + (1,) * counter[0].dim()
    multipliers, round_keys = _constants(key, counter[0].device)
    multipliers = multipliers.view(lanes)
    multiplied = torch.stack((counter[0], counter[2]))
    other = torch.stack((counter[1], counter[3]))
    for round_key in round_keys:
        product = (multiplied * multipliers).flip(0)
        multiplied = (product >> 32).bitwise_and_(_MASK).bitwise_xor_(other).bitwise_xor_(round_key.view(lanes))
        other = product.bitwise_and_(_MASK)
    return torch.stack((multiplied[0], other[0], multiplied[1], other[1]), dim=-1)


@lru_cache(maxsize=64)
def _constants(key: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Multipliers (2,) and round keys (rounds, 2); cached, since a copy to the GPU would make every draw wait."""
    return torch.tensor(_MULTIPLIERS, device=device), torch.tensor(_round_keys(key), device=device)


def _round_keys(key: tuple[int, int]) -> list[list[int]]:
    return [
        [(word + number * increment) & _MASK for word, increment in zip(key, _KEY_INCREMENTS, strict=True)]
        for number in range(_ROUNDS)
    ]


def _step_word(step: int | Tensor, elements: Tensor) -> Tensor:
    """The step as the last word of every counter, in the shape of `elements`."""
    if isinstance(step, Tensor):
        return (step & _MASK).expand_as(elements)
    _require_word("step", step)
    return torch.full_like(elements, step)


def _unit(words: Tensor) -> Tensor:
    return (words >> (32 - _UNIFORM_BITS)).float() * 2.0**-_UNIFORM_BITS
