"""Linear measurements of images, and sampling of images that agree with them.

For a task of your own, choose an operator (`MatrixOperator`, another one below, or your own subclass of
`LinearOperator`), make the task from a measurement (`Task.of_measurement`) and call
`ncsnx.sample(model, n=4, task=task)`; docs/guides/inverse-problems.md has an example. A package registers a task for
the command line with `register_task`, and reads pictures with `read_pictures`.
"""

from ncsnx.inverse.condition import Condition, Measured
from ncsnx.inverse.lazy_stack import LazyStack
from ncsnx.inverse.operators import (
    Averaging,
    Blurring,
    Fourier,
    Graying,
    LinearOperator,
    Masking,
    MatrixOperator,
)
from ncsnx.inverse.task import Task, psnr
from ncsnx.inverse.task_pictures import Pictures, read_pictures
from ncsnx.inverse.task_registry import TaskMaker, register_task
from ncsnx.inverse.tasks import (
    colorize,
    deblur,
    inpaint,
    outpaint,
    reconstruct,
    super_resolve,
    with_truth,
)
from ncsnx.inverse.value_ranges import value_range

__all__ = [
    "Averaging",
    "Blurring",
    "Condition",
    "Fourier",
    "Graying",
    "LazyStack",
    "LinearOperator",
    "Masking",
    "MatrixOperator",
    "Measured",
    "Pictures",
    "Task",
    "TaskMaker",
    "colorize",
    "deblur",
    "inpaint",
    "outpaint",
    "psnr",
    "read_pictures",
    "reconstruct",
    "register_task",
    "super_resolve",
    "value_range",
    "with_truth",
]
