"""Linear and other measurements of images, and sampling of images that agree with them.

For a task of your own, choose an operator (`MatrixOperator`, another one below, or your own subclass of
`LinearOperator`) or, where a singular value decomposition can't be had, a `LinearMap` by A and its adjoint. Make the
task from a measurement (`Task.of_measurement`) and call `ncsnx.draw(model, n=4, task=task)`;
docs/guides/inverse-problems.md has examples. A package registers a task for the command line with `register_task`, and
reads pictures with `read_pictures`.
"""

from ncsnx.inverse.coils import Sense, estimated_maps, simulated_maps
from ncsnx.inverse.condition import Condition, Measured
from ncsnx.inverse.deepinv_bridge import from_deepinv
from ncsnx.inverse.image_quality import psnr
from ncsnx.inverse.measured_files import reconstruct
from ncsnx.inverse.measurement_map import LinearMap, MeasurementMap
from ncsnx.inverse.operators import (
    Averaging,
    Blurring,
    Fourier,
    Graying,
    LinearOperator,
    Masking,
    MatrixOperator,
)
from ncsnx.inverse.task import Task
from ncsnx.inverse.task_pictures import Pictures, read_pictures
from ncsnx.inverse.tasks_from_files import (
    TaskMaker,
    colorize,
    deblur,
    inpaint,
    outpaint,
    register_task,
    super_resolve,
    with_truth,
)
from ncsnx.inverse.tomography import Radon

__all__ = [
    "Averaging",
    "Blurring",
    "Condition",
    "Fourier",
    "Graying",
    "LinearMap",
    "LinearOperator",
    "Masking",
    "MatrixOperator",
    "Measured",
    "MeasurementMap",
    "Pictures",
    "Radon",
    "Sense",
    "Task",
    "TaskMaker",
    "colorize",
    "deblur",
    "estimated_maps",
    "from_deepinv",
    "inpaint",
    "outpaint",
    "psnr",
    "read_pictures",
    "reconstruct",
    "register_task",
    "simulated_maps",
    "super_resolve",
    "with_truth",
]
