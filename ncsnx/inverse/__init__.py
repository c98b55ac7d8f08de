"""Linear and other measurements of images, and sampling of images that agree with them.

For a task of your own, choose an operator (`MatrixOperator`, another one below, or your own subclass of
`LinearOperator`) or, where a singular value decomposition can't be had, a `LinearMap` by A and its adjoint. Make the
task from a measurement (`Task.of_measurement`) and call `ncsnx.draw(model, n=4, task=task)`;
docs/adding/operator.md has examples. A package registers a task for the command line with `register_task`, and
reads pictures with `read_pictures`.
"""

from ncsnx.inverse.measured_files import reconstruct as reconstruct
from ncsnx.inverse.noisy_pictures.denoising import Counted as Counted
from ncsnx.inverse.noisy_pictures.denoising import denoise as denoise
from ncsnx.inverse.noisy_pictures.noise_level import estimated_noise as estimated_noise
from ncsnx.inverse.noisy_pictures.noise_level import estimated_shot_noise as estimated_shot_noise
from ncsnx.inverse.operators.coils import Sense as Sense
from ncsnx.inverse.operators.coils import estimated_maps as estimated_maps
from ncsnx.inverse.operators.coils import simulated_maps as simulated_maps
from ncsnx.inverse.operators.deepinv_physics import from_deepinv as from_deepinv
from ncsnx.inverse.operators.frequencies import Blurring as Blurring
from ncsnx.inverse.operators.frequencies import Fourier as Fourier
from ncsnx.inverse.operators.linear_operator import LinearOperator as LinearOperator
from ncsnx.inverse.operators.matrix import MatrixOperator as MatrixOperator
from ncsnx.inverse.operators.measurement_map import LinearMap as LinearMap
from ncsnx.inverse.operators.measurement_map import MeasurementMap as MeasurementMap
from ncsnx.inverse.operators.measurement_map import NoisyPicture as NoisyPicture
from ncsnx.inverse.operators.pixels import Averaging as Averaging
from ncsnx.inverse.operators.pixels import Graying as Graying
from ncsnx.inverse.operators.pixels import GrayPicture as GrayPicture
from ncsnx.inverse.operators.pixels import Masking as Masking
from ncsnx.inverse.operators.tomography import Radon as Radon
from ncsnx.inverse.posterior.image_quality import psnr as psnr
from ncsnx.inverse.rules.contract import Measured as Measured
from ncsnx.inverse.rules.contract import rule as rule
from ncsnx.inverse.rules.exact import ExactRule as ExactRule
from ncsnx.inverse.rules.likelihood import LikelihoodRule as LikelihoodRule
from ncsnx.inverse.rules.reverse import ReverseRule as ReverseRule
from ncsnx.inverse.task import Task as Task
from ncsnx.inverse.task_pictures import Pictures as Pictures
from ncsnx.inverse.task_pictures import read_pictures as read_pictures
from ncsnx.inverse.tasks_from_files import TaskMaker as TaskMaker
from ncsnx.inverse.tasks_from_files import colorize as colorize
from ncsnx.inverse.tasks_from_files import deblur as deblur
from ncsnx.inverse.tasks_from_files import inpaint as inpaint
from ncsnx.inverse.tasks_from_files import outpaint as outpaint
from ncsnx.inverse.tasks_from_files import register_task as register_task
from ncsnx.inverse.tasks_from_files import super_resolve as super_resolve
from ncsnx.inverse.tasks_from_files import with_truth as with_truth
from ncsnx.shot_noise import ShotNoise as ShotNoise
