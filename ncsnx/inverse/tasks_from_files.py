"""Tasks from files: inpainting, outpainting, super-resolution, colorization, deblurring, and those of packages.

`space` is the model's: the shape of its images, and which numbers in files are black and white.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar

import attrs
import torch
from torch import Tensor
from torch.nn import functional

from ncsnx.errors import NcsnxError, UsageError
from ncsnx.inverse.noisy_pictures.denoising import estimate_in_words, estimated_white_noise, short
from ncsnx.inverse.operators.frequencies import Blurring
from ncsnx.inverse.operators.measurement_map import sha256_of_values
from ncsnx.inverse.operators.pixels import Averaging, Graying, Masking
from ncsnx.inverse.task import Task
from ncsnx.inverse.task_pictures import Pictures, mask_space, read_pictures
from ncsnx.quantities import counted
from ncsnx.space import Space
from ncsnx.spelling import argument, parameter

_ROUNDING = 1 / (255 * math.sqrt(12))
"""Standard deviation of the rounding error of 8 bits."""


Rectangle = tuple[int, int, int, int]
"""Left, top, right and bottom of a part of an image in pixels, right and bottom not included, as in Pillow."""


def with_truth(
    task: Task,
    path: Path | None,
    space: Space,
    inputs: Path | None = None,
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
    truth = read_pictures(path, space, what="a true picture", fit=fit)
    places: Sequence[int] = range(len(truth.names))
    if inputs is not None and inputs.is_dir() and path.is_dir() and task.pictures:
        places = _by_name(path, task.pictures, truth.names)
    elif len(places) != task.count:
        raise UsageError(
            f"{parameter('truth')} {path}: {counted(len(places), 'picture')} for {counted(task.count, 'input')}"
        )
    return attrs.evolve(task, truth=truth.pixels[list(places)].float())


def _by_name(path: Path, pictures: tuple[str, ...], truths: tuple[str, ...]) -> list[int]:
    """Index of the truth of the same name, for each picture."""
    stems, wanted = ([Path(name).stem for name in names] for names in (truths, pictures))
    for name in sorted({*stems, *wanted}):
        if (stems.count(name), wanted.count(name)) != (1, 1):
            raise UsageError(
                f"{parameter('truth')} {path}: expected one true picture for each input, of the same name; of {name} "
                f"there are {counted(wanted.count(name), 'input')} and {counted(stems.count(name), 'true picture')}"
            )
    return [stems.index(name) for name in wanted]


def inpaint(path: Path, mask: Path | Rectangle, space: Space, *, fit: bool | None = None) -> Task:
    """Inpainting of the pixels where the mask is white (1 in a .npy), or in a rectangle. fit: as in `read_pictures`."""
    pictures = read_pictures(path, space, fit=fit)
    hole = _hole_of(mask, space, fit) if isinstance(mask, Path) else _rectangular(mask, space.shape)
    return _around("inpaint", pictures, hole == 0, space)


def _hole_of(mask: Path, space: Space, fit: bool | None) -> Tensor:
    """(H, W) of 0 and 1, the pixels to be filled in."""
    holes = read_pictures(mask, mask_space(space), what="a mask", fit=fit)
    if len(holes.names) > 1:
        raise UsageError(f"{parameter('mask')} {mask}: expected one mask for all pictures, found {len(holes.names)}")
    hole = holes.pixels[0, 0]
    if fit:
        hole = (hole > 0.5).double()
    if bool(((hole != 0) & (hole != 1)).any()):
        raise NcsnxError(f"{mask}: expected black (known) and white (to be filled in) only: a PNG without soft edges")
    if bool((hole == hole[0, 0]).all()):
        raise NcsnxError(f"{mask}: the mask is all {'white' if hole[0, 0] else 'black'}")
    return hole


def _rectangular(inside: Rectangle, shape: tuple[int, int, int]) -> Tensor:
    """`_hole_of` a rectangle."""
    _, height, width = shape
    left, top, right, bottom = inside
    if not (0 <= left < right <= width and 0 <= top < bottom <= height) or inside == (0, 0, width, height):
        raise UsageError(
            f"{parameter('mask')} {','.join(map(str, inside))}: expected left, top, right and bottom of a part of "
            f"0,0,{width},{height}, right and bottom not included"
        )
    hole = torch.zeros(height, width, dtype=torch.float64)
    hole[top:bottom, left:right] = 1
    return hole


def outpaint(path: Path, at: tuple[int, int] | None, space: Space) -> Task:
    """Outpainting around smaller pictures. at: column and row of their upper left corner; default: centered."""
    pictures, shape = read_pictures(path, space, smaller=True), space.shape
    height, width = pictures.pixels.shape[2:]
    left, top = at if at is not None else ((shape[2] - width) // 2, (shape[1] - height) // 2)
    if left < 0 or top < 0 or left + width > shape[2] or top + height > shape[1]:
        raise UsageError(
            f"{parameter('at')} {left},{top}: a picture of {height}×{width} pixels does not fit there into images of "
            f"{shape[1]}×{shape[2]}; give at most {shape[2] - width},{shape[1] - height}"
        )
    around = (left, shape[2] - width - left, top, shape[1] - height - top)
    whole = Pictures(pictures.names, functional.pad(pictures.pixels, around))
    return _around("outpaint", whole, functional.pad(torch.ones(height, width), around).bool(), space)


def _around(name: str, pictures: Pictures, known: Tensor, space: Space) -> Task:
    """The task of pictures of which these pixels are known, (H, W) bool. Others are shown gray, or 0 if unbounded."""
    operator = Masking(known.expand(pictures.pixels.shape[1:]))
    return Task(
        name=name,
        operator=operator,
        values=operator.coefficients(pictures.pixels),
        inputs=torch.where(known, pictures.pixels, 0.5 if space.bounded else 0.0),
        pictures=pictures.names,
        facts={"mask_sha256": sha256_of_values(known)},
        is_gray=all(pictures.gray),
    )


def super_resolve(path: Path, factor: int, space: Space, *, fit: bool | None = None) -> Task:
    """Super-resolution of pictures whose pixels are means of blocks. fit: as in `read_pictures`."""
    if factor < 2:
        raise UsageError(f"{parameter('factor')} must be at least 2, not {factor}")
    operator = Averaging(space.shape, factor)
    pictures = read_pictures(path, space.at(operator.small), what=f"a picture to be enlarged by {factor}", fit=fit)
    facts = {"factor": factor}
    return Task.of_measurement(
        operator,
        pictures.pixels,
        name="super-resolve",
        pictures=pictures.names,
        facts=facts,
        is_gray=all(pictures.gray),
    )


def colorize(path: Path, space: Space, *, fit: bool | None = None) -> Task:
    """Colorization of gray pictures, which are 0.299 R + 0.587 G + 0.114 B. fit: as in `read_pictures`."""
    shape = space.shape
    if shape[0] != 3:
        raise UsageError(
            f"{parameter('colorize')} needs a model of images with 3 channels, but this model's images have {shape[0]}"
        )
    pictures = read_pictures(path, space.at((1, *shape[1:])), fit=fit)
    shown = pictures.pixels.expand(-1, 3, -1, -1)
    return Task.of_measurement(Graying(shape), pictures.pixels, name="colorize", inputs=shown, pictures=pictures.names)


def deblur(path: Path, sigma: float, space: Space, noise: float | None = None) -> Task:
    """Deblurring of pictures blurred by a Gaussian of `sigma` pixels.

    noise: its standard deviation, where black is 0 and white 1, or for unbounded data `space.span`; None: that of 8-bit
    rounding, or more if more is estimated, as in a JPEG, the same for all pictures. Unbounded pictures have none.
    """
    operator = Blurring(space.shape, sigma)
    pictures = read_pictures(path, space)
    remarks: tuple[str, ...] = ()
    if noise is None:
        noise = 0.0
        if space.bounded:
            found, tables = estimated_white_noise(pictures, pictures.pixels)
            noise = max(_ROUNDING, found)
            advice = (
                f"if the result has a pattern, type more, if it is blurred, less:  {argument('noise', short(noise))}"
            )
            remarks = (estimate_in_words(f"{noise:.3g} ({255 * noise:.1f} of 255)", tables, advice),)
    return Task.of_measurement(
        operator,
        pictures.pixels,
        name="deblur",
        noise=noise,
        remarks=remarks,
        inputs=pictures.pixels,
        pictures=pictures.names,
        facts={"blur": sigma},
        is_gray=all(pictures.gray),
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
    """A task of a package."""

    make: TaskMaker
    example: ExampleWriter | None
    """Writes a file that the maker reads, for the conformance tests."""


_tasks: dict[str, RegisteredTask] = {}


def register_task(tag: str, *, example: ExampleWriter | None = None) -> Callable[[T], T]:
    """Registers the decorated `TaskMaker`. Raises ValueError if another task has the tag."""

    def registered(make: T) -> T:
        if tag in _tasks:
            raise ValueError(f"a task {tag!r} already exists")
        _tasks[tag] = RegisteredTask(make, example)
        return make

    return registered


def registered_tasks() -> dict[str, RegisteredTask]:
    """Registered tasks by tag."""
    return dict(_tasks)
