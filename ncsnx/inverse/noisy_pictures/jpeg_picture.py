"""A JPEG as a measurement: the DCT coefficients of its planes, each with the error of its quantization."""

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ncsnx.data.jpeg import BLOCK, LEVEL_SHIFT, Jpeg, JpegPlane, dct_matrix
from ncsnx.errors import Hint, UsageError, printable
from ncsnx.inverse.operators.linear_operator import PlacedTensor
from ncsnx.inverse.operators.measurement_map import LinearMap, NoisyPicture
from ncsnx.inverse.operators.pixels import GrayPicture, Identity
from ncsnx.inverse.task import Task
from ncsnx.inverse.task_pictures import Pictures, read_pictures
from ncsnx.space import Space
from ncsnx.spelling import argument, parameter

_DCT = PlacedTensor(torch.from_numpy(dct_matrix()))
_WHITE = 255
_BOX = 0.6
"""Width of the box in steps for a mean. The middle of the coefficients that round to one is more probable than the ends
(Park & Lee 1999). On ten crops, each at its best σ, the mean gain is as large as with 0.75 or larger: by 0 dB at
quality 10, 0.05 dB at 75 and 90. With 1, it is 0.15 dB less there."""
_TURNS = 8
"""How often the box of the coefficients and the range of the pixels are approached."""
_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
"""Y, Cb and Cr of red, green and blue: JFIF 1.02, with Cb and Cr around 0."""
_TRANSPOSED = (5, 6, 7, 8)
_MIRRORED = {1: [], 2: [-1], 3: [-2, -1], 4: [-2], 5: [], 6: [-1], 7: [-2, -1], 8: [-2]}
"""What makes a stored picture upright, by EXIF orientation: some are transposed, then axes are mirrored."""


@attrs.frozen(kw_only=True, eq=False)
class JpegPicture(NoisyPicture, LinearMap):
    """Measurement of the planes' DCT coefficients, white 1: those of Y, then of Cb and Cr; or of the gray plane alone.

    They are linear in the picture: Y isn't shifted by 128/255 here, which makes its constant coefficients 1,024/255
    larger than the file's. As a noisy picture it is the decoded one, with white noise of `sigma`.
    """

    shape: tuple[int, int, int]
    """(C, H, W) of the upright picture."""
    planes: tuple[JpegPlane, ...]
    """The quantized coefficients, of Y, Cb and Cr or of Y alone."""
    orientation: int
    """EXIF orientation of the planes, 1 to 8."""
    seen: Identity | GrayPicture
    """The decoded picture as a measurement with white noise."""
    decoded: Tensor
    """(C, H, W) float32, upright, 0 to 1."""
    sigma: float
    """Standard deviation of the noise of the decoded picture's values."""

    @property
    def measured_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """(M,)."""
        return (sum(plane.values.size for plane in self.planes),)

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        """As many as for the decoded picture with white noise."""
        return self.seen.evaluations

    @cached_property
    def norm(self) -> float:
        """An upper bound of ‖A‖, which it is if blocks end with the picture.

        The mean of n pixels has the norm 1/√n, and an edge that is repeated k times counts as k + 1 pixels.
        """
        copies = [math.prod(1 + lacking for lacking in _lacking(plane, self._stored)) for plane in self.planes]
        scales = [math.sqrt(k / math.prod(plane.sampling)) for k, plane in zip(copies, self.planes, strict=True)]
        return float(torch.linalg.matrix_norm(torch.tensor(scales)[:, None] * self._colors.tensor, 2))

    def apply(self, x: Tensor) -> Tensor:
        """Coefficients of upright images: (B, C, H, W) → (B, M)."""
        x = x.flip(_MIRRORED[self.orientation])
        x = x.mT if self.orientation in _TRANSPOSED else x
        pixels = torch.einsum("pc,bchw->pbhw", self._colors.like(x), x)
        return torch.cat([_coefficients(plane, one) for plane, one in zip(self.planes, pixels, strict=True)], dim=1)

    def adjoint(self, y: Tensor) -> Tensor:
        """(B, M) → (B, C, H, W)."""
        pixels = [self._trimmed(one) / math.prod(plane.sampling) for plane, one in self._pixels(y)]
        return self._upright(self._colors.like(y).T, pixels)

    def change(self, y: Tensor) -> Tensor:
        """The least change of the planes' pixels that changes the coefficients by y, (B, M) → (B, C, H, W).

        Of blocks that go beyond the picture, the coefficients change only approximately so.
        """
        pixels = [self._trimmed(one) / self._trimmed(torch.ones_like(one[:1])) for _, one in self._pixels(y)]
        return self._upright(self._inverse_colors.like(y), pixels)

    def noisy(self, values: Tensor, noise: float | Tensor, draw: Callable[[], Tensor]) -> Tensor:
        """The decoded picture; if it is gray, with noise drawn in the directions of colors."""
        decoded = self.seen.coefficients(self.decoded[None]).to(values.device)
        return self.seen.noisy(decoded.expand(len(values), -1), self.sigma, draw)

    def deviation(self, noise: float | Tensor) -> float:
        """The standard deviation of the decoded picture's noise: √C σ for a gray picture in C channels."""
        return self.seen.deviation(self.sigma)

    def finished(self, images: Tensor, values: Tensor) -> Tensor:
        """The nearest images from 0 to 1 whose coefficients round to the file's."""
        return self.in_box(self.seen.finished(images, values), values)

    def finished_mean(self, images: Tensor, values: Tensor) -> Tensor:
        """Means from 0 to 1 near the file's coefficients: at most 0.3 steps away."""
        return self.in_box(self.seen.finished_mean(images, values), values, _BOX)

    def in_box(self, images: Tensor, values: Tensor, width: float = 1.0) -> Tensor:
        """The nearest images from 0 to 1 whose coefficients are at most width/2 steps from `values`: for a width of 1,
        they round to the file's."""
        half = width * self._half_steps.like(images)
        for _ in range(_TURNS):
            away = values.to(images) - self.apply(images)
            images = (images + self.change(away - away.clamp(-half, half))).clamp(0, 1)
        return images

    @property
    def noise(self) -> Tensor:
        """Standard deviation of each coefficient, (1, M): that of a uniform error of at most half a step."""
        return self._half_steps.tensor[None] / math.sqrt(3)

    @cached_property
    def _half_steps(self) -> PlacedTensor:
        """(M,)."""
        steps = [np.broadcast_to(plane.steps, plane.values.shape).ravel() for plane in self.planes]
        return PlacedTensor(torch.from_numpy(np.concatenate(steps)) / (2 * _WHITE))

    @cached_property
    def _colors(self) -> PlacedTensor:
        """Planes of channels, (planes, C)."""
        channels = self.shape[0]
        rows = _YCBCR if len(self.planes) == 3 else ((1 / channels,) * channels,)
        return PlacedTensor(torch.tensor(rows, dtype=torch.float64))

    @cached_property
    def _inverse_colors(self) -> PlacedTensor:
        return PlacedTensor(torch.linalg.pinv(self._colors.tensor))

    @property
    def _stored(self) -> tuple[int, int]:
        """Height and width as stored."""
        _, height, width = self.shape
        return (width, height) if self.orientation in _TRANSPOSED else (height, width)

    def _pixels(self, y: Tensor) -> list[tuple[JpegPlane, Tensor]]:
        """The planes with the pixels that have the values of samples, (B, height, width) of whole blocks."""
        parts = torch.split(y, [plane.values.size for plane in self.planes], dim=1)
        return [(plane, _enlarged(plane, part)) for plane, part in zip(self.planes, parts, strict=True)]

    def _trimmed(self, pixels: Tensor) -> Tensor:
        """The adjoint of repeating the last row and column: (B, height, width) of whole blocks → (B, H, W) stored."""
        for dim, side in zip((1, 2), self._stored, strict=True):
            inside, last = pixels.narrow(dim, 0, side - 1), pixels.narrow(dim, side - 1, pixels.shape[dim] - side + 1)
            pixels = torch.cat([inside, last.sum(dim, keepdim=True)], dim)
        return pixels

    def _upright(self, colors: Tensor, pixels: Sequence[Tensor]) -> Tensor:
        """Channels (C, planes) of stored planes, each (B, H, W), as upright images."""
        x = torch.einsum("cp,pbhw->bchw", colors, torch.stack(list(pixels)))
        return (x.mT if self.orientation in _TRANSPOSED else x).flip(_MIRRORED[self.orientation])


def _lacking(plane: JpegPlane, stored: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of pixels that a picture of this size lacks for whole blocks."""
    blocks = plane.values.shape[:2]
    below, right = (n * BLOCK * k - side for n, k, side in zip(blocks, plane.sampling, stored, strict=True))
    return below, right


def _coefficients(plane: JpegPlane, pixels: Tensor) -> Tensor:
    """Orthonormal DCT coefficients of the blocks of a plane: (B, H, W) → (B, count).

    A sample is the mean of its pixels; the last row and column are repeated until blocks are whole, as libjpeg does.
    """
    below, right = _lacking(plane, pixels.shape[1:])
    whole = functional.pad(pixels[:, None], (0, right, 0, below), mode="replicate")
    (rows, columns), dct = plane.values.shape[:2], _DCT.like(pixels)
    samples = functional.avg_pool2d(whole, plane.sampling).view(-1, rows, BLOCK, columns, BLOCK)
    return (dct @ samples.transpose(2, 3) @ dct.T).flatten(1)


def _enlarged(plane: JpegPlane, coefficients: Tensor) -> Tensor:
    """Samples of coefficients, each repeated for its pixels: (B, count) → (B, height, width) of whole blocks."""
    (rows, columns, *block), dct = plane.values.shape, _DCT.like(coefficients)
    blocks = dct.T @ coefficients.view(-1, rows, columns, *block) @ dct
    samples = blocks.transpose(2, 3).reshape(-1, rows * BLOCK, columns * BLOCK)
    down, across = plane.sampling
    return samples.repeat_interleave(down, 1).repeat_interleave(across, 2)


def restore_jpeg(path: Path, space: Space) -> Task:
    """Removal of the errors of JPEG compression. path: one file, of the size of the model's images.

    Raises UsageError for other formats and for JPEGs whose planes can't be had, NcsnxError as `read_pictures`.
    """
    pictures = None if path.is_dir() else read_pictures(path, space)
    jpeg = None if pictures is None else pictures.jpegs[0]
    if pictures is None or jpeg is None:
        found = "a folder" if path.is_dir() else "a picture of another format, which has no tables"
        raise UsageError(
            f"{parameter('jpeg')} {path}: expected a JPEG, found {found}",
            Hint("remove its noise instead", adds=argument("denoise", path)),
        )
    return task_of_jpeg(jpeg, pictures)


def _remarks(jpeg: Jpeg) -> list[str]:
    """What was read from the file, in words."""
    remarks = [f"JPEG: errors of about {jpeg.sigma:.2g} ({_WHITE * jpeg.sigma:.1f} of 255) by its tables"]
    if jpeg.software is not None:
        remarks.append(
            f"EXIF names {printable(jpeg.software)}; what an earlier JPEG lost is not in these tables: if blocks "
            f"remain, remove them as noise:  {argument('denoise', jpeg.name)} {argument('noise', 0.05)}"
        )
    return remarks


def task_of_jpeg(jpeg: Jpeg, pictures: Pictures) -> Task:
    """The task of a JPEG. pictures: the upright one. Raises as `Jpeg.planes`.

    A picture without colors is measured by its gray plane alone, however it is stored.
    """
    decoded = pictures.pixels.float()
    _, channels, height, width = decoded.shape
    shape = (channels, height, width)
    operator = JpegPicture(
        shape=shape,
        planes=jpeg.planes()[: 1 if channels == 1 or pictures.gray[0] else None],
        orientation=jpeg.orientation,
        seen=GrayPicture(shape) if pictures.gray[0] else Identity(shape),
        decoded=decoded[0],
        sigma=jpeg.sigma_in_box,
    )
    values = torch.from_numpy(np.concatenate([plane.values.ravel() for plane in operator.planes]))
    values[: operator.planes[0].values.size : BLOCK**2] += LEVEL_SHIFT * BLOCK
    return Task(
        name="jpeg",
        operator=operator,
        values=values[None] / _WHITE,
        noise=operator.noise,
        inputs=decoded,
        pictures=pictures.names,
        facts={"sigma": jpeg.sigma_in_box},
        remarks=tuple(_remarks(jpeg)),
    )
