"""task.json, beside the samples of a task: their misfit to the measurement, and PSNR to the truth.

    {"task": "inpaint", "misfit": 1e-8, "samples_sha256": "…", "pictures": [
        {"picture": "a.png", "images": [0, 4], "psnr_of_mean": 21.5, "psnr_of_one": 18.9}, …]}

`images` is the half-open range of a picture's images. PSNRs, in dB, exist if the truth is known; null means equal.
"""

import math
import statistics
from collections.abc import Callable
from pathlib import Path

import attrs

from ncsnx.config.strict.fields import REST, versioned
from ncsnx.inverse.alternatives import Alternatives, open_alternatives
from ncsnx.inverse.task import Task, psnr
from ncsnx.inverse.task_drawing import draw_task
from ncsnx.storage import reading
from ncsnx.storage.atomic import write_bytes
from ncsnx.storage.documents.document import document
from ncsnx.storage.documents.document_files import write_document

TASK_FILE = "task.json"


@attrs.frozen(kw_only=True)
class PictureRecord:
    """The images that agree with one picture."""

    picture: str
    """Name of the picture."""
    images: tuple[int, int]
    """Half-open range of indices of its images."""
    psnr: dict[str, float | None] = attrs.field(metadata=REST)
    """psnr_of_mean and psnr_of_one, in dB; empty without a truth."""


@document("the record of a task")
@attrs.frozen(kw_only=True)
class TaskRecord:
    """Content of task.json."""

    schema_version: int = attrs.field(default=1, metadata=versioned(since=2))
    task: str
    misfit: float
    samples_sha256: str
    pictures: tuple[PictureRecord, ...]


def record_task(task: Task, folder: Path, samples: Path, check_stop: Callable[[], None] = lambda: None) -> TaskRecord:
    """Writes task.json and the task's grid.png into the folder of the samples, and returns the record.

    Both compare with the truth if the task has one. Reads one picture and some of its images at a time; check_stop is
    called before each picture and raises to stop. Raises NcsnxError.
    """
    with open_alternatives(samples, task.count) as images:
        misfits: list[float] = []
        records: list[PictureRecord] = []
        for place, alternatives in enumerate(images):
            check_stop()
            misfit, compared = _compared(task.of(place), place, alternatives)
            misfits.append(misfit)
            records.append(compared)
        grid = draw_task(task, images)
    with reading.opened(samples) as file:
        samples_sha256 = reading.sha256(file)
    record = TaskRecord(task=task.name, misfit=max(misfits), samples_sha256=samples_sha256, pictures=tuple(records))
    write_bytes(folder / "grid.png", grid)
    write_document(folder / TASK_FILE, record)
    return record


def _compared(task: Task, place: int, images: Alternatives) -> tuple[float, PictureRecord]:
    """The largest difference between Uᵀ y and its value for the images of a task with one picture, and the record."""
    truth = task.truth
    misfits: list[float] = []
    psnrs: list[float] = []
    for some in images.batches():
        misfits.append(task.misfit(some))
        psnrs += [] if truth is None else psnr(some, truth)
    found: dict[str, float | None] = {}
    if truth is not None:
        mean = images.reduced(lambda values: values.mean(dim=0))
        found = {"psnr_of_mean": _finite(psnr(mean[None], truth)[0]), "psnr_of_one": _finite(statistics.fmean(psnrs))}
    each = images.count
    return max(misfits), PictureRecord(picture=task.names[0], images=(place * each, (place + 1) * each), psnr=found)


def _finite(psnr: float) -> float | None:
    return psnr if math.isfinite(psnr) else None
