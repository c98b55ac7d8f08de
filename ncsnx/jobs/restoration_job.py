"""Draws images that agree with measurements, such as parts of pictures, and says how well they agree."""

import math
from collections.abc import Callable
from pathlib import Path

import attrs
import torch

from ncsnx.config.data_sets import Data
from ncsnx.config.experiment import Experiment
from ncsnx.config.image_sizes import ImageSize
from ncsnx.config.variants import load_plugins
from ncsnx.data import data_folder, open_data
from ncsnx.data.transforms import window_of
from ncsnx.errors import NcsnxError
from ncsnx.inverse.calibration import calibration_in_words
from ncsnx.inverse.measured_files import ESTIMATE, ESTIMATED
from ncsnx.inverse.operators import Fourier
from ncsnx.inverse.posterior_maps import POSTERIOR_FILE
from ncsnx.inverse.rules import rule_in_words
from ncsnx.inverse.task import MEASURE, Task
from ncsnx.inverse.task_record import TaskRecord, misfit_in_words, record_task
from ncsnx.inverse.values import UNIT, ValueRange
from ncsnx.jobs.sample_drawing import FolderDrawing, load_model
from ncsnx.jobs.sampler_choice import measurement_warnings
from ncsnx.networks import meta_network
from ncsnx.quantities import counted
from ncsnx.runs.selection import Source
from ncsnx.runs.writer_lock import folder_lock
from ncsnx.runtime import Runtime
from ncsnx.sampling.drawing import Drawing, count_images
from ncsnx.sampling.request import SampleRequest
from ncsnx.sampling.sample_folder import SampleFolder
from ncsnx.sampling.score_model import ScoreModel, require_size
from ncsnx.spelling import argument, parameter
from ncsnx.stopping import StopRequest
from ncsnx.work import Work

_SAME, _SAME_SHARE = 1 / 255, 0.01
"""Largest difference of a value between a true picture and the training image that it is: a grey level, or a hundredth
of the standard deviation of the data where that is less."""
_MOST_SEARCHED = 2**28
"""Values of a training set that is searched for true pictures: that of CIFAR-10 has half of it."""
_MOST_MISFIT = 0.05
"""Maximum misfit explained by residual noise of the last level, without noise of the measurement."""


@attrs.frozen(kw_only=True)
class RestorationJob:
    """Pictures to restore, and the folder for the images."""

    source: Source
    experiment: Experiment
    """The experiment of the source, with the sampler that is to be used."""
    ckpt: int | str | None
    task: Callable[[], Task]
    """Gives the task; it may read files."""
    n: int
    """Images per picture."""
    size: ImageSize | None = None
    """Size of the images; None: that of the data. The task is for the same size."""
    request: SampleRequest
    """Seed, frames and images per batch; its number of images doesn't count."""
    runtime: Callable[[], Runtime]
    out: Path | None
    """None: the folder named after the protocol."""
    data: Path | None
    values: ValueRange = UNIT
    """Black and white in the data's own values, in which the maps of the posterior are written: see `result_range`."""
    start: Callable[[ScoreModel, Task], ScoreModel] = lambda model, task: model
    """(model, task) → the model with a start of its own."""
    overwrite: bool = False
    note: str = ""


@attrs.frozen(kw_only=True)
class Restoration:
    """A complete folder of images, and how well they agree."""

    task: Task
    output: SampleFolder
    record: TaskRecord


def carry_out_restoration(job: RestorationJob, work: Work, stop: StopRequest) -> Restoration | None:
    """Draws the images that the folder lacks and records their agreement; None on ranks other than 0.

    Raises NcsnxError.
    """
    with stop.at_once():
        if job.size is not None:  # before pictures are read
            load_plugins("ncsnx.runtime")
            require_size(meta_network(job.experiment), job.size)
        task = job.task()
        _ = task.protocol  # reads all pictures
        own = own_values(job.experiment.data, job.values, work.warning)
        seen = seen_truths(task, job, work)
    if seen:
        more = f" and {len(seen) - 1:,} more" if len(seen) > 1 else ""
        work.warning(
            f"{seen[0]}{more}: the truth is a training image, so distances and calibration tell nothing of other "
            "pictures\ncompare with pictures that were held out"
        )
    for warning in measurement_warnings(job.experiment.sampler, noisy=task.is_exact and task.noise > 0):
        work.warning(warning)
    if not task.is_exact:
        work.info(f"rule: {rule_in_words(task.rule)}")
    if task.facts.get("maps") == ESTIMATED:
        work.info("coil maps: estimated from the fully sampled centre of the frequencies")
    if task.name == MEASURE and isinstance(task.operator, Fourier) and task.count > 1:
        work.info(
            f"kspace: {counted(task.count, 'picture')} of one coil; if the first axis is that of coils, give their "
            f"{parameter('maps')}, or {argument('maps', ESTIMATE)}"
        )
    count = count_images(job.n, task)
    at_once = work.ranks.batch_size(count, job.request.batch_size)
    with stop.at_once():
        model = job.start(load_model(work, job.source, job.experiment, job.ckpt, job.runtime(), job.size), task)
        if not task.is_exact:  # before a folder is made
            data, sampler = model.experiment.data, model.experiment.sampler
            first = torch.tensor([0], device=model.runtime.device)
            task.conditions(data, model.levels[-1], 0, job.n, shape=model.shape)(first).admit(sampler, model.levels)
    drawing = FolderDrawing(
        drawing=Drawing(
            model=model, request=attrs.evolve(job.request, n=count, batch_size=at_once), task=task, data=job.data
        ),
        images=f"{counted(count, 'image')}, {job.n:,} for each of {counted(task.count, 'picture')}",
        out=job.out,
        overwrite=job.overwrite,
        note=job.note,
    )
    output = drawing.carry_out(work)
    if output is None:
        return None
    with folder_lock(output.path, str(output.path)):
        record = record_task(task, output.path, output.samples_path, own, window_of(job.experiment.data), stop.check)
    _report(record, task, own, work)
    return Restoration(task=task, output=output, record=record)


def seen_truths(task: Task, job: RestorationJob, work: Work) -> list[str]:
    """Names of the pictures whose truth is a training image, to 8 bits; none where the data is large or not at hand."""
    truth, data = task.truth, job.experiment.data
    if truth is None:
        return []
    try:
        splits = open_data(data, data_folder(job.data))
    except NcsnxError:
        return []
    train, (black, white) = splits.train, splits.train.value_range
    is_own = job.source.data_fingerprint() in (None, splits.fingerprint)
    if not is_own or train.shape != truth.shape[1:] or len(train) * math.prod(train.shape) > _MOST_SEARCHED:
        return []
    seen = torch.zeros(len(truth), dtype=torch.bool)
    with work.progress("looking for the truth in the training set", total=len(train), unit="images") as advance:
        for images in torch.split(torch.arange(len(train)), 256):
            known = (train.read(images).pixels.float() - black) / (white - black)
            most = min(_SAME, _SAME_SHARE * float(known.std()))
            seen |= (torch.cdist(truth.float().flatten(1), known.flatten(1), p=math.inf) <= most).any(dim=1)
            advance(len(images))
    return [name for name, is_seen in zip(task.names, seen.tolist(), strict=True) if is_seen]


def own_values(data: Data, values: ValueRange, warn: Callable[[str], object]) -> ValueRange:
    """The data's own values; 0 to 1, with a warning, if they are bounded and can't be known without a packed data set.

    Raises NcsnxError for unbounded data whose values aren't known.
    """
    low, high = 0.0, 1.0
    try:
        low, high = values.ends
    except NcsnxError as error:
        if not data.is_bounded:
            raise
        warn(f"{POSTERIOR_FILE} will have values from 0 (black) to 1 (white): {error}")
    return ValueRange(low, high, is_bounded=data.is_bounded, is_complex=data.is_complex)


def _report(record: TaskRecord, task: Task, own: ValueRange, work: Work) -> None:
    """Says how well the images agree with the measurement and with the truth."""
    misfit = f"largest difference from the measurement: {misfit_in_words(record.misfit, bounded=own.is_bounded)}"
    if record.misfit > own.span * (_MOST_MISFIT * task.gain + 6 * task.noise):
        is_best = task.is_exact and own.is_bounded
        best = "no image with values from black to white agrees better\n" if is_best else ""
        noisy = "" if task.noise else f"; if it is noisy, say how much with {parameter('noise')}"
        work.warning(f"{misfit}\n{best}check the values of the measurement{noisy}")
    else:
        work.info(misfit)
    for found in (*record.pictures, *filter(None, [record.average])):
        if found.psnr:
            mean, one = found.in_words("mean"), found.in_words("one")
            work.info(f"{found.picture}: {mean} of the mean image; {one} of a single image on average")
    if record.calibration is not None:
        work.info(f"calibration: {calibration_in_words(record.calibration)}")
