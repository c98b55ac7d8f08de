"""Draws images that agree with measurements, such as parts of pictures, and says how well they agree."""

from collections.abc import Callable
from pathlib import Path

import attrs

from ncsnx.config.experiment import Experiment
from ncsnx.config.image_sizes import ImageSize
from ncsnx.config.variants import load_plugins
from ncsnx.inverse.task import Task
from ncsnx.inverse.task_drawing import psnr_in_words
from ncsnx.inverse.task_record import TaskRecord, record_task
from ncsnx.jobs.sample_drawing import FolderDrawing, load_model
from ncsnx.networks import meta_network
from ncsnx.quantities import counted, number
from ncsnx.runs.model_source import Source
from ncsnx.runtime import Runtime
from ncsnx.sampling.request import SampleRequest
from ncsnx.sampling.sample import count_images
from ncsnx.sampling.sample_folder import SampleFolder
from ncsnx.sampling.score_model import require_size
from ncsnx.spelling import parameter
from ncsnx.stopping import StopRequest
from ncsnx.work import Work

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
    count = count_images(job.n, task)
    at_once = work.ranks.batch_size(count, job.request.batch_size)
    with stop.at_once():
        model = load_model(work, job.source, job.experiment, job.ckpt, job.runtime(), job.size)
    drawing = FolderDrawing(
        model=model,
        request=attrs.evolve(job.request, n=count, batch_size=at_once),
        task=task,
        images=f"{counted(count, 'image')}, {job.n:,} for each of {counted(task.count, 'picture')}",
        out=job.out,
        data=job.data,
        overwrite=job.overwrite,
        note=job.note,
    )
    output = drawing.carry_out(work)
    if output is None:
        return None
    record = record_task(task, output.path, output.samples_path, stop.check)
    _report(record, task, work)
    return Restoration(task=task, output=output, record=record)


def _report(record: TaskRecord, task: Task, work: Work) -> None:
    """Says how well the images agree with the measurement and with the truth."""
    misfit = f"maximum misfit to the measurement: {number(record.misfit)}, where black is 0 and white 1"
    if record.misfit > _MOST_MISFIT + 6 * task.noise:
        work.warning(
            f"{misfit}\nno image with values from black to white agrees better\n"
            f"check the values of the measurement; if it is noisy, say how much with {parameter('noise')}"
        )
    else:
        work.info(misfit)
    for found in record.pictures:
        if found.psnr:
            mean, one = (psnr_in_words(found.psnr[f"psnr_of_{which}"]) for which in ("mean", "one"))
            work.info(f"{found.picture}: PSNR {mean} of the mean image, {one} of a single image on average")
