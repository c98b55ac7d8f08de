"""task.json, beside the samples of a task: their misfit to the measurement, and PSNR to the truth.

    {"task": "inpaint", "misfit": 1e-8, "samples_sha256": "…", "pictures": [
        {"picture": "a.png", "images": [0, 4], "psnr_of_mean": 21.5, "psnr_of_one": 18.9}, …]}

`images` is the half-open range of a picture's images. PSNRs, in dB, exist if the truth is known; null means equal.
"""

import hashlib
import math
from pathlib import Path

import attrs
import safetensors.torch

from ncsnx.config.strict.fields import REST, versioned
from ncsnx.inverse.task import Task
from ncsnx.inverse.task_drawing import draw_task, largest_misfit, quality
from ncsnx.storage.atomic import write_bytes
from ncsnx.storage.documents.document import document
from ncsnx.storage.documents.document_files import write_document


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


def record_task(task: Task, folder: Path, samples: Path) -> TaskRecord:
    """Writes task.json and the task's grid.png into the folder of the samples, and returns the record.

    Both compare with the truth if the task has one. Raises NcsnxError.
    """
    content = samples.read_bytes()
    images = safetensors.torch.load(content)["samples"]
    found = quality(task, images)
    each = len(images) // task.count
    psnrs = [{"psnr_of_mean": _finite(of.of_mean), "psnr_of_one": _finite(of.of_one)} for of in found]
    pictures = [
        PictureRecord(picture=name, images=(place * each, (place + 1) * each), psnr=psnrs[place] if psnrs else {})
        for place, name in enumerate(task.names)
    ]
    record = TaskRecord(
        task=task.name,
        misfit=largest_misfit(task, images),
        samples_sha256=hashlib.sha256(content).hexdigest(),
        pictures=tuple(pictures),
    )
    write_bytes(folder / "grid.png", draw_task(task, images))
    write_document(folder / "task.json", record)
    return record


def _finite(psnr: float) -> float | None:
    return psnr if math.isfinite(psnr) else None
