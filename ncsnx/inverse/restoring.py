"""A restoration: warnings before it, how well its images agree with measurement and truth, and its result."""

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import attrs
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from ncsnx.config.converter import unstructure
from ncsnx.config.data_sets import cuts_patches
from ncsnx.config.sampler import Sampler
from ncsnx.errors import Hint, NcsnxError
from ncsnx.images import ImageBatch
from ncsnx.inverse.measured_files import ESTIMATE, ESTIMATED
from ncsnx.inverse.noisy_pictures.denoising import Counted, shot_options
from ncsnx.inverse.operators.frequencies import Fourier
from ncsnx.inverse.operators.measurement_map import NoisyPicture
from ncsnx.inverse.operators.pixels import Masking
from ncsnx.inverse.posterior.calibration import CALIBRATION_TITLES, Calibration, calibration_in_words, calibration_rows
from ncsnx.inverse.posterior.maps import POSTERIOR_FILE, QUANTILES, PosteriorMaps, read_posterior
from ncsnx.inverse.restoration_defaults import ALTERNATIVES
from ncsnx.inverse.rules.contract import rows_of
from ncsnx.inverse.task import MEASURE, Task
from ncsnx.inverse.task_record import (
    CALIBRATION_FILE,
    PictureRecord,
    TaskRecord,
    mean_files,
    misfit_in_words,
    record_task,
    write_means,
)
from ncsnx.model_spec import ModelSpec
from ncsnx.quantities import counted, roughly
from ncsnx.randomness import Purpose
from ncsnx.results import Column, Table
from ncsnx.sampling.generation import SeededNoise
from ncsnx.sampling.model import Model
from ncsnx.sampling.sample_folder import SampledImages, SampleFolder
from ncsnx.shot_noise import ShotNoise
from ncsnx.space import NOISE_TOLERANCE, Space
from ncsnx.spelling import A_DIR, argument, parameter
from ncsnx.stopping import check_stop
from ncsnx.work import SILENT, Work

_MOST_MISFIT = 0.05
"""Maximum misfit explained by residual noise of the last level, without noise of the measurement."""
_TIMED, _SLOW, _MUCH = 2**16, 2**20, 10**8
"""Pixels from which on the time of alternatives is said before, and that of a mean; bytes that are said before."""
_FILLED = 16
"""Thickness of a hole up to which the mean of four alternatives is nearer to the truth than Telea's method in three of
four pictures; of 40 pixels in one (docs/project/photographs.md)."""
_USUAL, _MANY = "4 to 6", 10
"""Largest of thousands of values of noise, in standard deviations; from where on the noise is larger than was said."""


def say_before(task: Task, space: Space, work: Work) -> None:
    """Says how the measurement is understood."""
    for remark in task.remarks:
        work.info(remark)
    if not task.is_exact and not isinstance(task.operator, NoisyPicture):
        work.info(f"rule: {task.rule}")
    if task.facts.get("maps") == ESTIMATED:
        work.info("coil maps: estimated from the fully sampled center of the frequencies")
    if task.name == MEASURE and isinstance(task.operator, Fourier) and task.count > 1:
        work.info(
            f"kspace: {counted(task.count, 'picture')} of one coil; if the first axis is that of coils, give their "
            f"{parameter('maps')}, or {argument('maps', ESTIMATE)}"
        )


def warn_of_holes(task: Task, spec: ModelSpec, work: Work) -> None:
    """Warns of holes that are thicker than what a network of patches knows how to fill."""
    if not isinstance(task.operator, Masking) or not cuts_patches(spec.data):
        return
    across = 2 * float(distance_transform_edt(~task.operator.known[0].numpy()).max())
    if across > _FILLED:
        work.warning(
            f"a hole is {across:.0f} pixels across where it is thickest; up to about {_FILLED} this model fills it "
            "better than simple methods, beyond that it may paint textures\nmask only what is damaged, such as the "
            "letters of a date stamp instead of a rectangle around them"
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
        advice = f"say how large:  {argument('noise', float(f'{record.misfit / 5:.1g}'))}"
        if isinstance(task.operator, Counted):
            shot, more = task.operator.shot, times / 5
            larger = ShotNoise(float(f"{shot.gain * more**2:.2g}"), float(f"{shot.read * more:.2g}"))
            advice = f"say how large:  {shot_options(larger, space.span)}"
        elif isinstance(task.noise, Tensor):
            advice = f"multiply the noise of each value by {times / 5:.2g}"
        work.warning(f"{misfit}\nits noise is probably larger, as in a JPEG; {advice}")
    elif record.has_alternatives:  # the difference of a denoised picture is the noise
        work.info(misfit)
    for found in (*record.pictures, *filter(None, [record.average])):
        if found.distances:
            one = f"; {found.in_words('one')} of a single image on average" if record.has_alternatives else ""
            work.info(f"{found.picture}: {found.in_words('mean')} of the mean image{one}")
    if record.calibration is not None and record.calibration.is_known:
        work.info(f"calibration: {calibration_in_words(record.calibration)}")


def denoises(task: Task, spec: ModelSpec, sampler: Sampler) -> bool:
    """Whether a model gives the mean of a task's posterior by evaluations alone, without drawing from it.

    Not with guidance, not for alternatives of several classes or other further inputs, and not by a network that was
    tuned for consistency, whose D is a sample.
    """
    is_plain = len(sampler.classes) <= 1 and sampler.guidance == 1 and not spec.has_cond
    return isinstance(task.operator, NoisyPicture) and spec.any_sigma and spec.learns_scores and is_plain


@torch.no_grad()
def posterior_means(task: Task, model: Model, seed: int = 0, work: Work = SILENT) -> Tensor | None:
    """The means of the posterior of noisy pictures, (P, C, H, W), in [0, 1] or own values of unbounded data.

    Each is D(y, σ), the mean of p(x_0 | y) of the model's data (Tweedie's formula): of one evaluation, or the mean of
    several where a part of the noise is drawn by the seed. None where `denoises` isn't true.
    """
    picture = task.operator
    if not isinstance(picture, NoisyPicture) or not denoises(task, model.spec(), model.sampler):
        return None
    space, sigma, means = model.space, task.sigma(model.space), []
    cond = model.inputs(0, torch.zeros(1, dtype=torch.int64, device=model.runtime.device))
    with work.progress("denoising", total=task.count * picture.evaluations, unit="evaluations") as advance:
        for place in range(task.count):
            one = torch.tensor([place])
            of_picture, values, noise = picture.of(one), task.values[one], rows_of(task.noise, one)
            draws = SeededNoise(seed, one, picture.shape, Purpose.MEASUREMENT_NOISE)
            total = torch.zeros(1, *picture.shape)
            for number in range(picture.evaluations):
                check_stop()
                # alternatives take draw 0
                given = of_picture.noisy(values, noise, partial(draws, 1 + number)) * space.span
                x = space.from_form(given.to(model.runtime.device))
                total = total + space.to_form(model.denoise(x, sigma, cond)).cpu()
                advance()
            means.append(space.span * task.finished(total / (picture.evaluations * space.span), one, are_means=True))
    return torch.cat(means)


@attrs.define(kw_only=True)
class FirstMeans:
    """The means of a task, which are found and written before its alternatives are drawn."""

    task: Task
    model: Model
    seed: int
    work: Work
    alternatives: int
    """Of each picture."""
    maps: bool
    """Whether maps of them are written."""
    keep: Callable[[Tensor], Path | None]
    """Called with the final means, (P, C, H, W); gives the file that they are also saved to."""
    means: Tensor | None = None
    """(P, C, H, W), once they are found; None where the model doesn't give them."""
    seconds: float = 0.0
    """Of an evaluation."""

    def __call__(self, folder: Path) -> None:
        """Finds them and writes their pictures to the folder, where the model gives them without alternatives."""
        self._say_first()
        began = time.monotonic()
        self.means = posterior_means(self.task, self.model, self.seed, self.work)
        self.seconds = (time.monotonic() - began) / max(1, self.task.count * self.task.evaluations)
        is_large = math.prod(self.model.shape[1:]) >= _TIMED
        if is_large == (self.means is None):  # of small pictures, warming up took most of it
            self.seconds = self._seconds_of_evaluation()
        if self.means is not None:
            write_means(folder, self.means, self.model.space)
            if not self.alternatives:
                self.say_place(folder, self.means)
            else:  # what is saved would keep a repeated command from resuming
                self.work.info(f"mean:   {mean_files(folder, self.task.count)}")
        self._say_cost(folder)

    def _say_first(self) -> None:
        """Says how long the means of large pictures take, by the time of a part of them."""
        model, evaluations = self.model, self.task.evaluations * self.task.count
        pixels = math.prod(model.shape[1:])
        if pixels < _SLOW or model.tile is None or not denoises(self.task, model.spec(), model.sampler):
            return
        expected = self._seconds_of_evaluation() * evaluations
        self.work.info(f"{counted(evaluations, 'evaluation')}: about {roughly(expected)}")

    @torch.no_grad()
    def _seconds_of_evaluation(self) -> float:
        """The time of an evaluation of an image: of the second one, since the first warms up; of a part if in tiles."""
        model, (channels, *sides) = self.model, self.model.shape
        part = sides if model.tile is None else [min(model.tile, side) for side in sides]
        x = torch.zeros(1, channels, *part, device=model.runtime.device)
        cond = model.inputs(0, torch.zeros(1, dtype=torch.int64, device=x.device))
        model.denoise(x, model.levels[0], cond)
        began = time.monotonic()
        model.denoise(x, model.levels[0], cond)
        margins = 1 if part == sides else 1.5
        return (time.monotonic() - began) * margins * math.prod(sides) / math.prod(part)

    def say_place(self, folder: Path, means: Tensor) -> None:
        """Keeps the means, whose pictures are in the folder, and says where."""
        saved = self.keep(means)
        self.work.info(f"saved:  {saved}" if saved else f"mean:   {mean_files(folder, self.task.count)}")

    def _say_cost(self, folder: Path) -> None:
        """Says how long the alternatives take, and how much they write, if that is much."""
        model, images = self.model, self.alternatives * self.task.count
        if not images:
            return
        if (expected := self._expected(self.alternatives)) > 10:
            self.work.info(f"{counted(images, 'alternative')}: about {roughly(expected)}")
        size = 4 * math.prod(model.shape) * (images + self.maps * (2 + len(QUANTILES)) * self.task.count)
        if size > _MUCH:
            self.work.info(f"they take {size / 1e9:.1f} GB in {folder}")

    @property
    def beside(self) -> Tensor | None:
        """The means, unless that of the alternatives is better: of 8 by a rule that takes more into account.

        It misses the posterior's mean by an eighth of the variance.
        """
        return self.means if self.task.how.begins_at_noise or self.alternatives < 8 else None

    def _expected(self, alternatives: int) -> float:
        """Seconds that alternatives of each picture take, by those of the evaluations so far."""
        return alternatives * self.task.count * (self.model.evaluations or 0) * self.seconds

    def in_words(self, alternatives: int) -> str:
        """How many evaluations it took, and how long so many alternatives of each picture would take."""
        if self.task.sigma(self.model.space) <= self.model.space.noise * (1 + NOISE_TOLERANCE):
            return counted(self.task.evaluations, "evaluation")  # below is nothing to draw alternatives with
        return (
            f"{counted(self.task.evaluations, 'evaluation')}; {counted(alternatives, 'alternative')} take about "
            f"{roughly(self._expected(alternatives))}:  {argument('n', alternatives)}"
        )


@attrs.frozen(kw_only=True, repr=False)
class RestoredImages(SampledImages):
    """Images that agree with measurements, in a folder with their protocol; `grid` also has the measurements, the means
    and the spreads, and `images` are those of one picture after the other."""

    record: TaskRecord
    """How well they agree, as in task.json."""
    denoised: Tensor | None = attrs.field(default=None, eq=False)
    """Means that are known without images: see `means`."""
    saved: Path | None = None
    """File of the restored picture, if one was asked for."""
    is_kept: bool = True
    """Whether the folder still exists; otherwise only `saved` does."""

    @property
    def folder(self) -> Path:
        """Folder of everything that was written. Raises NcsnxError where only `saved` was kept."""
        if not self.is_kept:
            raise NcsnxError(f"only {self.saved} was kept", Hint("keep a folder too", adds=argument("out", A_DIR)))
        return super().folder

    @property
    def images(self) -> tuple[Path, ...]:
        """A PNG for each alternative."""
        return super().images if self.is_kept else ()

    @property
    def samples(self) -> tuple[Path, ...]:
        """Files of the alternatives, as of `ncsnx.sample`."""
        return super().samples if self.is_kept else ()

    def tensor(self) -> ImageBatch:
        """All alternatives, as of `ncsnx.sample`. Raises NcsnxError where none were drawn."""
        if not self.record.has_alternatives:
            raise NcsnxError("no alternatives were drawn, only means()", Hint("draw some", adds=argument("n", 4)))
        return super().tensor()

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
        plot = self.output.path / CALIBRATION_FILE
        return plot if plot.is_file() else None

    @property
    def posterior(self) -> Path:
        """File of the maps: safetensors, tensors (P, C, H, W) float32 in the data's own values."""
        return self.folder / POSTERIOR_FILE

    def maps(self) -> PosteriorMaps:
        """Mean, deviation and quantiles of the images of each picture; read at each call. Raises NcsnxError where they
        weren't written."""
        if self.record.posterior_sha256 is None:
            raise NcsnxError(
                "no maps were written; ask for them", Hint("with alternatives", adds=argument("posterior", True))
            )
        return read_posterior(self.posterior)

    def means(self) -> ImageBatch:
        """The mean of each picture, (P, C, H, W) float32 on the CPU, in [0, 1] or own values: denoised, or the mean of
        its images."""
        found = self.denoised
        if found is None:
            each = self.pictures[0].images[1]
            found = torch.stack([images.mean(dim=0) for images in torch.split(torch.Tensor(self.tensor()), each)])
        return ImageBatch.of(found, self.output.window)

    def shown(self) -> Sequence[Table | str]:
        if self.calibration is None:
            return ()
        columns = [Column(title, "right") for title in CALIBRATION_TITLES]
        return [Table(columns=columns, rows=calibration_rows(self.calibration))]

    def to_json(self) -> object:
        places = {"folder": str(self.folder)} if self.is_kept else {}
        places |= {} if self.saved is None else {"saved": str(self.saved)}
        return {**places, **self.protocol, "agreement": unstructure(self.record)}

    def heading(self) -> tuple[str, str]:
        images, pictures = counted(len(self.images), "image"), counted(len(self.pictures), "picture")
        drawn = f"{images} of {pictures}" if self.images else pictures
        return f"{self.task}: {drawn}", str(self.saved or self.folder)

    def picture(self) -> bytes | None:
        return super().picture() if self.is_kept else None

    def remarks(self) -> Sequence[str]:
        misfit = misfit_in_words(self.misfit, bounded="values" not in self.protocol)
        words = [] if self.calibration is None else calibration_in_words(self.calibration).splitlines()
        return [f"largest difference from the measurement: {misfit}", *(["; ".join(words)] if words else [])]


def restored(output: SampleFolder, first: FirstMeans, saved: Path | None, *, is_kept: bool) -> RestoredImages:
    """The images of a complete folder, which is locked, with a record of how well they agree; says what it says.

    saved: file of the restored picture, if one was asked for. is_kept: whether the folder stays.
    """
    task, space, work, each = first.task, first.model.space, first.work, first.alternatives
    means = first.beside
    record = record_task(task, output.path, each, space, work.check_stop, means, maps=first.maps)
    result = RestoredImages(output=output, record=record, denoised=means, saved=saved, is_kept=is_kept)
    if each and (means is None or saved is not None):
        first.say_place(output.path, result.means())
    say_agreement(record, task, space, work)
    if not each:
        work.info(first.in_words(ALTERNATIVES))
    return result
