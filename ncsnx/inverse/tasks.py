"""Tasks from files: inpainting, outpainting, super-resolution, colorization, deblurring, reconstruction.

In all of them `shape` is (C, H, W) of the model's images, and `values` says which numbers in files are black and white.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import attrs
import torch
from torch import Tensor
from torch.nn import functional

from ncsnx.errors import NcsnxError, UsageError
from ncsnx.inverse.kspace import read_frequencies
from ncsnx.inverse.lazy_stack import LazyStack, Stack
from ncsnx.inverse.operators import Averaging, Blurring, Fourier, Graying, LinearOperator, Masking
from ncsnx.inverse.task import MEASURE, Task
from ncsnx.inverse.task_pictures import read_pictures
from ncsnx.inverse.values import UNIT, ValueRange
from ncsnx.quantities import counted, percent
from ncsnx.spelling import parameter
from ncsnx.storage.process import in_utf8

_ROUNDING = 1 / (255 * math.sqrt(12))
"""Standard deviation of the rounding error of 8 bits."""


Rectangle = tuple[int, int, int, int]
"""Left, top, right and bottom of a part of an image in pixels, right and bottom not included, as in Pillow."""


def with_truth(
    task: Task,
    path: Path | None,
    inputs: Path | None = None,
    values: ValueRange = UNIT,
    *,
    fit: bool | None = None,
) -> Task:
    """The task with the true pictures in the file or folder `path`.

    inputs: file or folder of the task's own pictures. Pictures in two folders are matched by name without suffix;
    otherwise there must be as many truths as pictures, in the same order. fit: as in `read_pictures`. Raises
    NcsnxError.
    """
    if path is None:
        return task
    channels, height, width = task.operator.shape
    truth = read_pictures(path, channels, (height, width), "a true picture", values, fit=fit)
    places: Sequence[int] = range(len(truth.names))
    if inputs is not None and inputs.is_dir() and path.is_dir() and task.pictures:
        places = _by_name(path, task.pictures, truth.names)
    elif len(places) != task.count:
        raise UsageError(
            f"{parameter('truth')} {path}: {counted(len(places), 'picture')} for {counted(task.count, 'input')}"
        )
    return attrs.evolve(task, truth=LazyStack(task.count, lambda index: truth.stack.make(places[index]).float()))


def _by_name(path: Path, pictures: tuple[str, ...], truths: tuple[str, ...]) -> list[int]:
    """Index of the truth of the same name, for each picture."""
    given = f"{parameter('truth')} {path}"
    stems = [Path(name).stem for name in truths]
    wanted = [Path(name).stem for name in pictures]
    for names in (stems, wanted):
        name, times = Counter(names).most_common(1)[0]
        if times > 1:
            raise UsageError(
                f"{given}: {counted(times, 'picture')} are called {name}, so truths cannot be matched by name"
            )
    if lacking := sorted(set(wanted) - set(stems)):
        raise UsageError(f"{given}: expected a true picture for each input, found none called {lacking[0]}")
    if stray := sorted(set(stems) - set(wanted)):
        raise UsageError(f"{given}: expected a true picture for each input, but no input is called {stray[0]}")
    places = {name: place for place, name in enumerate(stems)}
    return [places[name] for name in wanted]


def inpaint(
    path: Path,
    mask: Path | Rectangle,
    shape: tuple[int, int, int],
    values: ValueRange = UNIT,
    *,
    fit: bool | None = None,
) -> Task:
    """Inpainting of the pixels where the mask is white (1 in a .npy), or in a rectangle. fit: as in `read_pictures`."""
    pictures = read_pictures(path, shape[0], shape[1:], "a picture", values, fit=fit)
    hole = _hole_of(mask, shape, fit) if isinstance(mask, Path) else _rectangular(mask, shape)
    operator = Masking((hole == 0).expand(shape))
    shown = pictures.stack.map(lambda pixels: pixels * (hole == 0) + _unknown(values) * (hole == 1))
    measured = pictures.stack.map(operator.coefficients)
    return _task("inpaint", operator, measured, pictures.names, shown, mask_sha256=_sha256(hole == 1))


def _hole_of(mask: Path, shape: tuple[int, int, int], fit: bool | None) -> Tensor:
    """(H, W) of 0 and 1, the pixels to be filled in."""
    holes = read_pictures(mask, 1, shape[1:], "a mask", fit=fit)
    if len(holes.names) > 1:
        raise UsageError(f"{parameter('mask')} {mask}: expected one mask for all pictures, found {len(holes.names)}")
    hole = holes.pixels[0, 0]
    if fit:
        hole = (hole > 0.5).double()
    grey = float(((hole != 0) & (hole != 1)).double().mean())
    if grey > 0:
        raise NcsnxError(
            f"{mask}: expected black (known) and white (to be filled in) only, found other values in "
            f"{percent(grey)} of the pixels"
        )
    if bool((hole == 0).all()) or bool((hole == 1).all()):
        colour, meaning = ("black", "nothing is to be filled in") if hole[0, 0] == 0 else ("white", "nothing is known")
        raise NcsnxError(f"{mask}: the mask is all {colour}, so {meaning}")
    return hole


def _rectangular(inside: Rectangle, shape: tuple[int, int, int]) -> Tensor:
    """`_hole_of` a rectangle."""
    _, height, width = shape
    if len(inside) != 4:
        raise UsageError(f"{parameter('mask')}: expected left, top, right and bottom, found {inside}")
    left, top, right, bottom = inside
    if not (0 <= left < right <= width and 0 <= top < bottom <= height) or inside == (0, 0, width, height):
        raise UsageError(
            f"{parameter('mask')} {','.join(map(str, inside))}: expected left, top, right and bottom of a part of "
            f"0,0,{width},{height}, right and bottom not included"
        )
    hole = torch.zeros(height, width, dtype=torch.float64)
    hole[top:bottom, left:right] = 1
    return hole


def outpaint(path: Path, at: tuple[int, int] | None, shape: tuple[int, int, int], values: ValueRange = UNIT) -> Task:
    """Outpainting around smaller pictures. at: column and row of their upper left corner; default: centred."""
    pictures = read_pictures(path, shape[0], shape[1:], "a picture", values, smaller=True)
    height, width = pictures.stack.shape[2:]
    left, top = at if at is not None else ((shape[2] - width) // 2, (shape[1] - height) // 2)
    if left < 0 or top < 0 or left + width > shape[2] or top + height > shape[1]:
        raise UsageError(
            f"{parameter('at')} {left},{top}: a picture of {height}×{width} pixels does not fit there into images of "
            f"{shape[1]}×{shape[2]}; give at most {shape[2] - width},{shape[1] - height}"
        )
    around = (left, shape[2] - width - left, top, shape[1] - height - top)
    known = functional.pad(torch.ones(height, width), around).bool()
    operator = Masking(known.expand(shape))
    whole = pictures.stack.map(lambda pixels: functional.pad(pixels, around))
    shown = whole.map(lambda pixels: pixels + _unknown(values) * ~known)
    # with the size, since pictures of other sizes may have as many pixels
    place: dict[str, Any] = {"at": [left, top], "size": [height, width]}
    return _task("outpaint", operator, whole.map(operator.coefficients), pictures.names, shown, **place)


def super_resolve(
    path: Path,
    factor: int,
    shape: tuple[int, int, int],
    values: ValueRange = UNIT,
    *,
    fit: bool | None = None,
) -> Task:
    """Super-resolution of pictures whose pixels are means of blocks. fit: as in `read_pictures`."""
    if factor < 2:
        raise UsageError(f"{parameter('factor')} must be at least 2, not {factor}")
    operator = Averaging(shape, factor)
    pictures = read_pictures(
        path, shape[0], operator.small[1:], f"a picture to be enlarged by {factor}", values, fit=fit
    )
    # y are the means; the coefficients are the means times the factor
    means = pictures.stack.map(lambda pixels: factor * pixels.flatten(1))
    shown = pictures.stack.map(lambda pixels: pixels.repeat_interleave(factor, 2).repeat_interleave(factor, 3))
    return _task("super-resolve", operator, means, pictures.names, shown, factor=factor)


def colorize(path: Path, shape: tuple[int, int, int], values: ValueRange = UNIT, *, fit: bool | None = None) -> Task:
    """Colorization of grey pictures, which are 0.299 R + 0.587 G + 0.114 B. fit: as in `read_pictures`."""
    if shape[0] != 3:
        raise UsageError(
            f"{parameter('colorize')} needs a model of images with 3 channels, but this model's images have {shape[0]}"
        )
    operator = Graying(shape)
    pictures = read_pictures(path, 1, shape[1:], "a picture", values, fit=fit)
    measured = pictures.stack.map(lambda y: operator.of_measurement(y) / operator.singular_values.double())
    shown = pictures.stack.map(lambda pixels: pixels.expand(-1, 3, -1, -1))
    return _task("colorize", operator, measured, pictures.names, shown)


def deblur(path: Path, sigma: float, shape: tuple[int, int, int], values: ValueRange = UNIT) -> Task:
    """Deblurring of pictures blurred by a Gaussian of `sigma` pixels.

    Bounded pictures have 8-bit rounding errors as noise, unbounded ones none.
    """
    operator = Blurring(shape, sigma)
    pictures = read_pictures(path, shape[0], shape[1:], "a picture", values)
    measured = pictures.stack.map(lambda y: operator.of_measurement(y) / operator.singular_values.double())
    noise = _ROUNDING if values.is_bounded else 0.0
    return _task("deblur", operator, measured, pictures.names, pictures.stack, noise=noise, blur=sigma)


def reconstruct(
    path: Path,
    shape: tuple[int, int, int],
    values: ValueRange = UNIT,
    *,
    centred: bool | None = None,
    bounded: bool = True,
) -> Task:
    """Reconstruction of images with one or two channels from frequencies in a file (see `read_frequencies`)."""
    found = read_frequencies(path, shape, values, centred=centred, bounded=bounded)
    operator = Fourier(shape, found.mask)
    names = tuple(f"{in_utf8(Path(path.name))}[{number}]" for number in range(len(found.kspace)))
    black, white = found.values
    middle = operator.coefficients(torch.full((1, *shape), black, dtype=torch.float64))
    measured = (operator.of_spectrum(found.kspace) - middle) / (white - black)
    return _task(MEASURE, operator, measured, names, None, mask_sha256=_sha256(found.mask))


def _unknown(values: ValueRange) -> float:
    """Value in which pixels that weren't measured are shown: grey, or 0 for unbounded data."""
    return 0.5 if values.is_bounded else 0.0


def _sha256(mask: Tensor) -> str:
    return hashlib.sha256(mask.contiguous().numpy().astype("uint8").tobytes()).hexdigest()


def _task(
    name: str,
    operator: LinearOperator,
    values: Stack,
    pictures: tuple[str, ...],
    shown: LazyStack | None,
    *,
    noise: float = 0.0,
    **facts: Any,
) -> Task:
    return Task(
        name=name,
        operator=operator,
        values=values,
        noise=noise,
        inputs=None if shown is None else shown.map(Tensor.float),
        pictures=pictures,
        facts=facts,
    )


# Tasks of installed packages by tag. A package names the module of a `register_task` by an entry point of the group
# `ncsnx.runtime`.

TaskMaker: TypeAlias = Callable[[Path, tuple[int, int, int]], Task]
"""(file, shape (C, H, W) of the model's images) → the task, of unbounded data in own values. Raises NcsnxError for an
unsupported file or shape."""
ExampleWriter: TypeAlias = Callable[[Tensor, Path], None]
"""(images (P, C, H, W) float64 in [0, 1], file): writes the measurement of the images, without noise, to the file."""
T = TypeVar("T", bound=TaskMaker)


@attrs.frozen
class RegisteredTask:
    """A task registered by a package."""

    make: TaskMaker
    write_example: ExampleWriter | None
    """Writes a file that `make` reads, for the conformance tests."""


_tasks: dict[str, RegisteredTask] = {}


def register_task(tag: str, *, example: ExampleWriter | None = None) -> Callable[[T], T]:
    """Decorator of a `TaskMaker`: registers it as the task `tag`, and returns it unchanged.

    example: writes a file that the maker reads. Raises ValueError if another task has the tag.
    """

    def register(make: T) -> T:
        if tag in _tasks:
            raise ValueError(f"a task {tag!r} already exists")
        _tasks[tag] = RegisteredTask(make, example)
        return make

    return register


def registered_tasks() -> dict[str, RegisteredTask]:
    """Registered tasks by tag."""
    return dict(_tasks)
