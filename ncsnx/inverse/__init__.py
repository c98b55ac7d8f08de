"""Linear measurements of images, and sampling images that agree with them.

A task of one's own: an operator (`MatrixOperator`, one of those below, or a class of one's own, a `LinearOperator`),
what it measured (`Task.of_measurement`), and `ncsnx.sample(model, n=4, task=task)`. docs/guides/inverse-problems.md has
a whole example. A package makes a task for `ncsnx sample --operator` with `register_task`; `read_pictures` reads what
it is given.
"""

from ncsnx.inverse.condition import Condition, Measured
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
from ncsnx.inverse.task_pictures import Pictures, read_pictures, value_range
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

__all__ = [
    "Averaging",
    "Blurring",
    "Condition",
    "Fourier",
    "Graying",
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
