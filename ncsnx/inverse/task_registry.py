"""Registry of the tasks of installed packages by tag: `@register_task(TAG)` on a function.

A package names the module of that function by an entry point of the group `ncsnx.runtime`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, TypeVar

import attrs
from torch import Tensor

from ncsnx.inverse.task import Task

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
