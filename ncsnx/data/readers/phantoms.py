"""Phantoms: complex images of ellipses, drawn from counter-based random numbers.

An image is a body, an ellipse with a bright rim, with up to nine ellipses of other intensities inside. It is slowly
shaded and has a slowly varying phase, as coil-combined images of magnetic resonance have. Edges are one pixel wide.
"""

import json
import math
from pathlib import Path

import torch
from torch import Tensor

from ncsnx.config.data_sets import Phantoms
from ncsnx.data.dataset import NO_LABEL, InMemory, Splits, StoredImages
from ncsnx.data.places import fingerprint_of_bytes
from ncsnx.data.registry import data_set
from ncsnx.randomness import Purpose, Stream
from ncsnx.work import SILENT, Work

_REVISION = 1
"""Increased whenever the images change."""
_INNER = 9
_ELLIPSE = 6  # words per ellipse: center, semi-axes, angle, intensity
_WORDS = 16 + _ELLIPSE * _INNER

_HELD_OUT_MODULUS, _HELD_OUT_REMAINDER = 16, 15
_AT_ONCE = 256


@data_set(Phantoms)
def read_phantoms(data: Phantoms, folder: Path, work: Work = SILENT) -> Splits:
    """Draws the phantoms; those whose index is 15 modulo 16 are held out.

    Machines agree on them to the accuracy of their square root, sine and cosine, so the fingerprint is that of what
    determines them.
    """
    _, height, width = data.shape
    ids = torch.arange(data.count)
    parts = []
    with work.progress("drawing phantoms", total=data.count, unit="images") as advance:
        for some in torch.split(ids, _AT_ONCE):
            work.check_stop()
            parts.append(phantoms(some, height, width, data.seed))
            advance(len(some))
    whole = InMemory(StoredImages(torch.cat(parts), torch.full_like(ids, NO_LABEL), ids), value_range=(0, data.scale))
    held_out = ids % _HELD_OUT_MODULUS == _HELD_OUT_REMAINDER
    mark = fingerprint_of_bytes("phantoms", json.dumps([_REVISION, height, width, data.count, data.seed]).encode())
    return Splits(whole.subset(~held_out), whole.subset(held_out), mark)


def phantoms(indices: Tensor, height: int, width: int, seed: int) -> Tensor:
    """(B, 2, H, W) float32: real and imaginary parts of the phantoms with these indices, (B,) int64.

    Magnitudes are at least 0, and 99 of 100 are below 1.03.
    """
    words = Stream(seed, Purpose.PHANTOMS).uniform(indices, (_WORDS,))
    y, x = _grid(height, width)
    magnitude, shading, phase = _body(words, y, x), _shading(words[:, 10:12], y, x), _phase(words[:, 5:10], y, x)
    magnitude = (magnitude * shading).clamp(min=0)
    return torch.stack([magnitude * phase.cos(), magnitude * phase.sin()], dim=1)


def _grid(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Coordinates of the pixels, (H, 1) and (1, W): the longer side from −1 to 1."""
    longest = max(height, width)
    y = (2 * torch.arange(height, dtype=torch.float32) + 1 - height) / longest
    x = (2 * torch.arange(width, dtype=torch.float32) + 1 - width) / longest
    return y[:, None], x[None, :]


def _body(words: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """(B, H, W): intensities of the body with its rim and the ellipses inside."""
    tall, wide = _between(words[:, 0], 0.72, 0.95), _between(words[:, 1], 0.72, 0.95)
    reach = tall * float(y.max()), wide * float(x.max())
    center, angle = (torch.zeros_like(tall), torch.zeros_like(tall)), _between(words[:, 2], -0.15, 0.15)
    inside, rim = _between(words[:, 3], 0.35, 0.7), _between(words[:, 4], 0.15, 0.35)
    skin = _covered(y, x, center, reach, angle)
    inner = _covered(y, x, center, (0.86 * reach[0], 0.86 * reach[1]), angle)
    found = (inside + rim).view(-1, 1, 1) * skin - rim.view(-1, 1, 1) * inner
    for number in range(_INNER):
        drawn = words[:, 16 + _ELLIPSE * number : 16 + _ELLIPSE * (number + 1)]
        around, away = 2 * math.pi * drawn[:, 0], 0.6 * drawn[:, 1].sqrt()
        place = away * around.sin() * reach[0], away * around.cos() * reach[1]
        size = 0.05 * (7 ** drawn[:, 2]), 0.05 * (7 ** drawn[:, 3])
        contrast = _between(drawn[:, 5], -0.45, 0.45)
        found = found + contrast.view(-1, 1, 1) * inner * _covered(y, x, place, size, math.pi * drawn[:, 4])
    return found


def _covered(y: Tensor, x: Tensor, center: tuple[Tensor, Tensor], axes: tuple[Tensor, Tensor], angle: Tensor) -> Tensor:
    """(B, H, W): share of each pixel that lies in an ellipse, to first order in the distance from its edge."""
    down, across = y - center[0].view(-1, 1, 1), x - center[1].view(-1, 1, 1)
    cosine, sine = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1)
    along, beside = (down * cosine + across * sine), (across * cosine - down * sine)
    first, second = (axis.view(-1, 1, 1) for axis in axes)
    radius = ((along / first) ** 2 + (beside / second) ** 2).sqrt()
    slope = ((along / first**2) ** 2 + (beside / second**2) ** 2).sqrt() / radius.clamp(min=1e-9)
    pixel = 2 / max(y.numel(), x.numel())
    return (0.5 + (1 - radius) / (slope * pixel).clamp(min=1e-9)).clamp(0, 1)


def _shading(words: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """(B, H, W): a factor that changes linearly over the image, by at most a fifth from the middle."""
    slopes = _between(words, -0.14, 0.14)
    return 1 + slopes[:, 0].view(-1, 1, 1) * y + slopes[:, 1].view(-1, 1, 1) * x


def _phase(words: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """(B, H, W): the phase in radians, a random constant plus a slow polynomial of the position."""
    start, *others = words.unbind(1)
    down, across, bend, twist = (_between(one, -1.2, 1.2).view(-1, 1, 1) for one in others)
    return 2 * math.pi * start.view(-1, 1, 1) + down * y + across * x + bend * (y**2 - x**2) + twist * 2 * y * x


def _between(words: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * words
