"""The tasks that packages bring for `ncsnx sample --operator TAG --input FILE`: `@register_task(TAG)` on a function.

A package names the module that holds it by an entry point of the group `ncsnx.runtime`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, TypeVar

import attrs
from torch import Tensor

from ncsnx.inverse.task import Task

TaskMaker: TypeAlias = Callable[[Path, tuple[int, int, int]], Task]
"""(a file, the shape (C, H, W) of the model's images) → the task. Raises NcsnxError for a file or shape that it doesn't
take."""
ExampleWriter: TypeAlias = Callable[[Tensor, Path], None]
"""(images (P, C, H, W) float64 in [0, 1], a file) → writes into the file what is measured of them, without noise."""
T = TypeVar("T", bound=TaskMaker)


@attrs.frozen
class RegisteredTask:
    """A task of a package."""

    make: TaskMaker
    write_example: ExampleWriter | None
    """For its tests: without it they have nothing to make the task of."""


_tasks: dict[str, RegisteredTask] = {}


def register_task(tag: str, *, example: ExampleWriter | None = None) -> Callable[[T], T]:
    """Decorator of a `TaskMaker`: makes the task `tag`, and leaves the function as it is.

    example: writes a file that the maker reads. Raises ValueError for a tag that is taken.
    """

    def register(make: T) -> T:
        if tag in _tasks:
            raise ValueError(f"there already is a task {tag!r}")
        _tasks[tag] = RegisteredTask(make, example)
        return make

    return register


def registered_tasks() -> dict[str, RegisteredTask]:
    """Those of the packages that are loaded, by tag."""
    return dict(_tasks)
