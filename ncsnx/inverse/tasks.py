"""The tasks that pictures in files are given as: filling in, enlarging, colouring, sharpening, measuring less."""

import hashlib
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ncsnx.data.decoding import SUFFIXES, as_array, decode, is_grey
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.inverse.operators import Averaging, Blurring, Fourier, Graying, LinearOperator, Masking
from ncsnx.inverse.task import Task

ROUNDING = 1 / (255 * math.sqrt(12))
"""The standard deviation of what 8 bits round away."""
_WHITE = (255, 255, 255)

TaskMaker = Callable[[Path, tuple[int, int, int]], Task]
"""(a file, the shape of the model's images) → the task."""
MAKERS: dict[str, TaskMaker] = {}
"""Those that packages bring, by tag."""


def register_task(tag: str) -> Callable[[TaskMaker], TaskMaker]:
    """Makes a task of your own known to `ncsnx sample RUN --operator TAG --input FILE`, as a decorator."""

    def register(maker: TaskMaker) -> TaskMaker:
        MAKERS[tag] = maker
        return maker

    return register


@attrs.frozen(eq=False)
class Pictures:
    """Pictures of one size, from a file or a folder."""

    names: tuple[str, ...]
    pixels: Tensor
    """(P, C, H, W) float64 in [0, 1]."""
    sha256: str
    """Of all files."""


def read_pictures(path: Path, channels: int, size: tuple[int, int], what: str) -> Pictures:
    """The picture, or all pictures of a folder by name, of this height and width. Raises NcsnxError."""
    files = _files(path)
    digest, found = hashlib.sha256(), []
    for file in files:
        content = _read(file)
        digest.update(content)
        image = decode(content, str(file))
        if (image.height, image.width) != size:
            raise NcsnxError(
                f"{file}: expected {what} of {size[0]}×{size[1]} pixels (height × width), found {image.height}×"
                f"{image.width}; resize or crop it first"
            )
        if channels == 1 and not is_grey(image):
            raise NcsnxError(f"{file}: expected {what} in grey, as this model's images are, found colours")
        pixels = torch.from_numpy(as_array(image, channels, _WHITE).copy()).double() / 255
        found.append(pixels.view(*size, channels).permute(2, 0, 1))
    return Pictures(tuple(file.name for file in files), torch.stack(found), digest.hexdigest())


def with_truth(task: Task, path: Path | None) -> Task:
    """The task with the true pictures, as many and in the same order. Raises NcsnxError."""
    if path is None:
        return task
    channels, height, width = task.operator.shape
    truth = read_pictures(path, channels, (height, width), "a true picture")
    if len(truth.names) != task.count:
        raise UsageError(f"--truth {path}: {len(truth.names)} pictures for {task.count} inputs")
    return attrs.evolve(task, truth=truth.pixels.float())


def inpaint(path: Path, mask: Path, shape: tuple[int, int, int]) -> Task:
    """Fills in where the mask is white."""
    pictures = read_pictures(path, shape[0], shape[1:], "a picture")
    holes = read_pictures(mask, 1, shape[1:], "a mask")
    if len(holes.names) > 1:
        raise UsageError(f"--mask {mask}: one mask for all pictures, not {len(holes.names)}")
    hole = holes.pixels[0, 0]
    grey = float(((hole != 0) & (hole != 1)).double().mean())
    if grey > 0:
        raise NcsnxError(
            f"{mask}: expected black (known) and white (to be filled in) only, found other values in "
            f"{100 * grey:.3g} % of the pixels"
        )
    if bool((hole == 0).all()) or bool((hole == 1).all()):
        known = "nothing is to be filled in" if bool((hole == 0).all()) else "nothing is known"
        raise NcsnxError(f"{mask}: {known}: the mask is all {'black' if hole[0, 0] == 0 else 'white'}")
    operator = Masking((hole == 0).expand(shape))
    shown = pictures.pixels * (hole == 0) + 0.5 * (hole == 1)
    return _task("inpaint", operator, operator.coefficients(pictures.pixels), pictures.names, shown, mask=holes.sha256)


def outpaint(path: Path, at: tuple[int, int] | None, shape: tuple[int, int, int]) -> Task:
    """Fills in around smaller pictures. at: column and row of their upper left corner; by default in the middle."""
    first = decode(_read(_files(path)[0]), str(path))
    height, width = first.height, first.width
    if height > shape[1] or width > shape[2] or (height, width) == shape[1:]:
        raise NcsnxError(
            f"{path}: expected a picture smaller than {shape[1]}×{shape[2]} pixels, found {height}×{width}"
        )
    pictures = read_pictures(path, shape[0], (height, width), "a picture")
    left, top = at if at is not None else ((shape[2] - width) // 2, (shape[1] - height) // 2)
    if left < 0 or top < 0 or left + width > shape[2] or top + height > shape[1]:
        raise UsageError(
            f"--at {left},{top}: a picture of {height}×{width} pixels there leaves the {shape[1]}×{shape[2]} pixels of "
            f"the model's images; at most {shape[2] - width},{shape[1] - height}"
        )
    around = (left, shape[2] - width - left, top, shape[1] - height - top)
    known = functional.pad(torch.ones(height, width), around).bool()
    operator = Masking(known.expand(shape))
    whole = functional.pad(pictures.pixels, around)
    shown = whole + 0.5 * ~known
    return _task("outpaint", operator, operator.coefficients(whole), pictures.names, shown, at=[left, top])


def super_resolve(path: Path, factor: int, shape: tuple[int, int, int]) -> Task:
    """Enlarges pictures whose pixels are the means of squares."""
    if factor < 2:
        raise UsageError(f"--factor must be at least 2, not {factor}")
    operator = Averaging(shape, factor)
    pictures = read_pictures(path, shape[0], operator.small[1:], f"a picture to be enlarged by {factor}")
    # y are the means, and the coefficients are the factor times those
    values = factor * pictures.pixels.flatten(1)
    shown = pictures.pixels.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    return _task("super-resolve", operator, values, pictures.names, shown, factor=factor)


def colorize(path: Path, shape: tuple[int, int, int]) -> Task:
    """Colours grey pictures, which are 0.299 R + 0.587 G + 0.114 B."""
    if shape[0] != 3:
        raise UsageError(f"--colorize takes a model of images with 3 channels; this one's have {shape[0]}")
    operator = Graying(shape)
    pictures = read_pictures(path, 1, shape[1:], "a picture")
    values = pictures.pixels.flatten(1) / operator.singular_values.double()
    return _task("colorize", operator, values, pictures.names, pictures.pixels.expand(-1, 3, -1, -1))


def deblur(path: Path, sigma: float, shape: tuple[int, int, int]) -> Task:
    """Sharpens pictures that a Gaussian of `sigma` pixels blurred; their 8 bits count as noise."""
    operator = Blurring(shape, sigma)
    pictures = read_pictures(path, shape[0], shape[1:], "a picture")
    values = operator.coefficients(pictures.pixels) / operator.singular_values.double()
    return _task("deblur", operator, values, pictures.names, pictures.pixels, noise=ROUNDING, blur=sigma)


def measure(path: Path, shape: tuple[int, int, int], values: tuple[float, float] = (0.0, 1.0)) -> Task:
    """Frequencies in a .npz: `kspace`, complex (H, W) or (P, H, W), and `mask`, (H, W), 1 where it was measured.

    In the order and scale of `numpy.fft.fft2(image, norm="ortho")`. values: those of the images that mean black and
    white, between which kspace's images are.
    """
    content = io.BytesIO(_read(path))
    try:
        with np.load(content, allow_pickle=False) as arrays:
            kspace, mask = np.asarray(arrays["kspace"]), np.asarray(arrays["mask"])
    except KeyError as error:
        raise NcsnxError(f"{path}: expected the arrays kspace and mask; {' '.join(str(error).split())}") from error
    except Exception as error:  # numpy raises almost anything for a damaged file
        raise NcsnxError(f"{path}: expected a .npz of arrays: {' '.join(str(error).split())}") from error
    if kspace.dtype.kind != "c" or kspace.shape[-2:] != shape[1:] or kspace.ndim not in (2, 3) or kspace.size == 0:
        raise NcsnxError(
            f"{path}: expected kspace to be complex, (H, W) or (P, H, W) for images of {shape[1]}×{shape[2]}; found "
            f"{kspace.dtype} {kspace.shape}"
        )
    if mask.shape != shape[1:] or not np.isin(mask, (0, 1)).all() or not mask.any():
        raise NcsnxError(f"{path}: expected mask to be {shape[1]}×{shape[2]}, 1 where kspace was measured and else 0")
    spectrum = torch.from_numpy(kspace.reshape(-1, *shape[1:]).astype(np.complex128))
    if not bool(torch.isfinite(torch.view_as_real(spectrum)).all()):
        raise NcsnxError(f"{path}: kspace holds values that aren't finite")
    black, white = values
    if mask[0, 0]:
        _check_means(path, spectrum[:, 0, 0].real / math.sqrt(mask.size), black, white)
    operator = Fourier(shape, torch.from_numpy(mask.astype(bool)))
    names = tuple(f"{path.name}[{number}]" for number in range(len(spectrum)))
    middle = operator.coefficients(torch.full((1, *shape), black, dtype=torch.float64))
    return _task("measure", operator, (operator.of_spectrum(spectrum) - middle) / (white - black), names, None)


def _check_means(path: Path, means: Tensor, black: float, white: float) -> None:
    """Measured means of images tell a wrong scale: they can't be far from black and white, whatever the noise."""
    reach = white - black
    far = means[(means < black - reach) | (means > white + reach)]
    if len(far):
        raise NcsnxError(
            f'{path}: expected kspace in the scale of numpy.fft.fft2(image, norm="ortho"), of images with values from '
            f"{black:g} to {white:g}; found an image with a mean of {far[0]:.4g}"
        )


def _task(
    name: str,
    operator: LinearOperator,
    values: Tensor,
    pictures: tuple[str, ...],
    shown: Tensor | None,
    *,
    noise: float = 0.0,
    **facts: Any,
) -> Task:
    return Task(
        name=name,
        operator=operator,
        values=values,
        noise=noise,
        inputs=None if shown is None else shown.float(),
        pictures=pictures,
        facts={"inputs": list(pictures), **facts},
    )


def _files(path: Path) -> Sequence[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith("."))
    if not found:
        raise NcsnxError(f"{path}: expected a picture, or a folder of pictures ({', '.join(SUFFIXES)}), found none")
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise NcsnxError(f"can't read {path}: {error.strerror or error}; is that the file's name?") from error
