"""A restoration: warnings before it, how well its images agree with measurement and truth, and its result."""

from collections.abc import Sequence
from pathlib import Path

import attrs
import torch
from torch import Tensor

from ncsnx.config.converter import unstructure
from ncsnx.inverse.calibration import CALIBRATION_TITLES, Calibration, calibration_in_words, calibration_rows
from ncsnx.inverse.measured_files import ESTIMATE, ESTIMATED
from ncsnx.inverse.operators import Fourier, Masking
from ncsnx.inverse.posterior_maps import POSTERIOR_FILE, PosteriorMaps, read_posterior
from ncsnx.inverse.task import MEASURE, Task
from ncsnx.inverse.task_record import CALIBRATION_FILE, PictureRecord, TaskRecord, misfit_in_words
from ncsnx.quantities import counted
from ncsnx.results import Column, Table
from ncsnx.sampling.model import Model
from ncsnx.sampling.sample_folder import SampledImages
from ncsnx.space import Space
from ncsnx.spelling import argument, parameter
from ncsnx.stopping import check_stop
from ncsnx.work import Work

_MOST_MISFIT = 0.05
"""Maximum misfit explained by residual noise of the last level, without noise of the measurement."""
_USUAL, _MANY = "4 to 6", 10
"""Largest of thousands of values of noise, in standard deviations; from where on the noise is larger than was said."""


def say_before(task: Task, space: Space, work: Work) -> None:
    """Says how the measurement is understood."""
    if task.how.begins_at_noise:
        work.info(f"noise: {task.least_noise * space.span:.4g}")
    if not task.is_exact:
        work.info(f"rule: {task.rule}")
    if task.facts.get("maps") == ESTIMATED:
        work.info("coil maps: estimated from the fully sampled center of the frequencies")
    if task.name == MEASURE and isinstance(task.operator, Fourier) and task.count > 1:
        work.info(
            f"kspace: {counted(task.count, 'picture')} of one coil; if the first axis is that of coils, give their "
            f"{parameter('maps')}, or {argument('maps', ESTIMATE)}"
        )


def say_agreement(record: TaskRecord, task: Task, space: Space, work: Work) -> None:
    """Says how well the images agree with the measurement and with the truth."""
    misfit = f"largest difference from the measurement: {misfit_in_words(record.misfit, bounded=space.bounded)}"
    times = record.in_noise or 0.0
    if times:
        misfit += f"; {times:.1f} times its noise, where noise alone gives {_USUAL}"
    elif isinstance(task.operator, Masking):
        misfit += "; it says nothing about what was filled in"
    allowed = _MOST_MISFIT * task.gain
    if record.misfit > space.span * (allowed + 6 * task.largest_noise):
        is_best = task.is_exact and space.bounded
        best = "no image with values from black to white agrees better\n" if is_best else ""
        noisy = "" if record.in_noise else f"; if it is noisy, say how much with {parameter('noise')}"
        work.warning(f"{misfit}\n{best}check the values and the scale of the measurement{noisy}")
    elif times > _MANY:
        of_all = f"say how large:  {argument('noise', float(f'{record.misfit / 5:.1g}'))}"
        of_each = f"multiply the noise of each value by {times / 5:.2g}"
        advice = of_each if isinstance(task.noise, Tensor) else of_all
        work.warning(f"{misfit}\nits noise is probably larger, as in a JPEG; {advice}")
    else:
        work.info(misfit)
    for found in (*record.pictures, *filter(None, [record.average])):
        if found.distances:
            mean, one = found.in_words("mean"), found.in_words("one")
            work.info(f"{found.picture}: {mean} of the mean image; {one} of a single image on average")
    if record.calibration is not None:
        work.info(f"calibration: {calibration_in_words(record.calibration)}")


@torch.no_grad()
def posterior_means(task: Task, model: Model) -> Tensor | None:
    """The mean of the posterior of noisy pictures in one evaluation, (P, C, H, W).

    It is D(y, σ), the mean of p(x_0 | y) of the model's data (Tweedie's formula). None for another rule, with guidance,
    and for alternatives of several classes or other further inputs.
    """
    classes = model.spec().classes
    if not task.how.begins_at_noise or model.cond is not None or len(classes) > 1 or model.sampler.guidance != 1:
        return None
    cond = model.inputs(0, torch.zeros(1, dtype=torch.int64, device=model.runtime.device))
    sigma, given = task.sigma(model.space), model.to_network(task.noisy_pictures() * model.space.span)
    means = []
    for place in range(task.count):
        check_stop()
        means.append(model.denoise(given[place : place + 1], sigma, cond))
    return model.from_network(torch.cat(means)).cpu()


@attrs.frozen(kw_only=True, repr=False)
class RestoredImages(SampledImages):
    """Images that agree with measurements, in a folder with their protocol; `grid` also has the measurements, the means
    and the spreads, and `images` are those of one picture after the other."""

    record: TaskRecord
    """How well they agree, as in task.json."""

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.record.task

    @property
    def misfit(self) -> float:
        """Largest difference to the measurement, where black is 0 and white 1; in own values of unbounded data."""
        return self.record.misfit

    @property
    def pictures(self) -> tuple[PictureRecord, ...]:
        """The images of each picture, and their distances to the truth if it is known."""
        return self.record.pictures

    @property
    def calibration(self) -> Calibration | None:
        """Shares of truths within the central 50, 80 and 95 % of their alternatives; None without a truth."""
        return self.record.calibration

    @property
    def calibration_plot(self) -> Path | None:
        """A PNG of these shares; None if there is no truth, or too few alternatives."""
        plot = self.folder / CALIBRATION_FILE
        return plot if plot.is_file() else None

    @property
    def posterior(self) -> Path:
        """File of the maps: safetensors, tensors (P, C, H, W) float32 in the data's own values."""
        return self.folder / POSTERIOR_FILE

    def maps(self) -> PosteriorMaps:
        """Mean, deviation and quantiles of the images of each picture; read at each call."""
        return read_posterior(self.posterior)

    def shown(self) -> Sequence[Table | str]:
        if self.calibration is None:
            return ()
        columns = [Column(title, "right") for title in CALIBRATION_TITLES]
        return [Table(columns=columns, rows=calibration_rows(self.calibration))]

    def to_json(self) -> object:
        return {"folder": str(self.folder), **self.protocol, "agreement": unstructure(self.record)}

    def heading(self) -> tuple[str, str]:
        images, pictures = counted(len(self.images), "image"), counted(len(self.pictures), "picture")
        return f"{self.task}: {images} of {pictures}", str(self.folder)

    def remarks(self) -> Sequence[str]:
        misfit = misfit_in_words(self.misfit, bounded="values" not in self.protocol)
        words = [] if self.calibration is None else calibration_in_words(self.calibration).splitlines()
        return [f"largest difference from the measurement: {misfit}", *(["; ".join(words)] if words else [])]
