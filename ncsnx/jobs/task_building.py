"""Builds the task that was chosen, from its files."""

import traceback
from pathlib import Path

import attrs

from ncsnx.config.data_sets import Data
from ncsnx.config.variants import load_plugins
from ncsnx.data.transforms import scale_of
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.inverse import tasks_from_files
from ncsnx.inverse.measured_files import range_in, reconstruct
from ncsnx.inverse.measurement_map import fingerprint
from ncsnx.inverse.task import Task
from ncsnx.inverse.tasks_from_files import registered_tasks, with_truth
from ncsnx.inverse.values import ValueRange
from ncsnx.jobs.task_choice import TaskOptions, corner
from ncsnx.spelling import parameter


def build_task(chosen: TaskOptions, data: Data, values: ValueRange, shape: tuple[int, int, int] | None = None) -> Task:
    """The chosen task for images of this data. values: black and white in the files of numbers.

    shape: (C, H, W) of the images; default: that of the data.

    Raises UsageError, NcsnxError.
    """
    chosen.check(bounded=data.is_bounded)
    shape = data.shape if shape is None else shape
    task = _task(chosen, data, shape, values)
    task.require_fit(data, shape)
    if chosen.noise is not None:
        task = attrs.evolve(task, noise=_noise(chosen.noise, data, own_range(chosen, values)))
    if chosen.rule is not None:
        task = attrs.evolve(task, rule=chosen.rule)
    return with_truth(task, chosen.truth, chosen.inputs, own_range(chosen, values), fit=chosen.fits)


def own_range(chosen: TaskOptions, values: ValueRange) -> ValueRange:
    """Black and white in the values of the measurement and the truth. values: as in `build_task`."""
    return values if chosen.measure is None else range_in(chosen.measure, values)


def result_range(chosen: TaskOptions, values: ValueRange) -> ValueRange:
    """Black and white in the values of results: those of the measurement; of unbounded data those of the model's."""
    return own_range(chosen, values) if values.is_bounded else values


def _noise(noise: float, data: Data, values: ValueRange) -> float:
    """The deviation of noise where black is 0 and white 1; of unbounded data it is given in own values."""
    if data.is_bounded:
        return noise
    black, white = values.ends
    return noise / (white - black)


def _task(chosen: TaskOptions, data: Data, shape: tuple[int, int, int], values: ValueRange) -> Task:
    """The task that was chosen. Raises UsageError, NcsnxError."""
    match chosen:
        case TaskOptions(inpaint=Path() as picture, mask=(Path() | tuple()) as mask):
            return tasks_from_files.inpaint(picture, mask, shape, values, fit=chosen.fits)
        case TaskOptions(outpaint=Path() as picture):
            return tasks_from_files.outpaint(picture, corner(chosen.at), shape, values)
        case TaskOptions(super_resolve=Path() as picture, factor=int(factor)):
            return tasks_from_files.super_resolve(picture, factor, shape, values, fit=chosen.fits)
        case TaskOptions(colorize=Path() as picture):
            return tasks_from_files.colorize(picture, shape, values, fit=chosen.fits)
        case TaskOptions(deblur=Path() as picture, blur=float(sigma)):
            return tasks_from_files.deblur(picture, sigma, shape, values)
        case TaskOptions(measure=Path() as file):
            return reconstruct(file, shape, values, maps=chosen.maps, centred=chosen.centred, bounded=data.is_bounded)
        case TaskOptions(operator=str(tag), input=Path() as file):
            task = _task_of_package(tag, file, shape)
            return task if data.is_bounded else task.divided(scale_of(data))
    raise AssertionError(f"no task: {chosen}")


def _task_of_package(tag: str, file: Path, shape: tuple[int, int, int]) -> Task:
    load_plugins("ncsnx.runtime")
    tasks = registered_tasks()
    if tag not in tasks:
        known = f"expected one of {', '.join(sorted(tasks))}" if tasks else "no installed package registers a task"
        raise UsageError(f"{parameter('operator')} {tag[:80]!a}: unknown task; {known}")
    maker = tasks[tag].make
    try:
        task = maker(file, shape)
    except NcsnxError:
        raise
    except Exception as error:  # the package's code may raise anything
        line = traceback.extract_tb(error.__traceback__)[-1]
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise NcsnxError(f"{parameter('operator')} {tag}: {line.filename}:{line.lineno}: {reason}") from error
    if not isinstance(task, Task):
        name = f"{maker.__module__}.{getattr(maker, '__qualname__', tag)}"
        raise NcsnxError(
            f"{parameter('operator')} {tag}: expected {name} to return a Task, found {type(task).__name__}"
        )
    return attrs.evolve(task, facts={**task.facts, "operator": tag, "operator_sha256": fingerprint(task.operator)})
