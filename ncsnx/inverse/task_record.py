"""task.json, beside the samples of a task: how well they agree with what was given, and with the truth.

    {"task": "inpaint", "misfit": 1e-8, "samples_sha256": "…", "pictures": [
        {"picture": "a.png", "images": [0, 4], "psnr_of_mean": 21.5, "psnr_of_one": 18.9}, …]}

images are those from the first to before the second. PSNRs, in dB, are there where a truth was given; null is exact.
"""

import hashlib
import math
from pathlib import Path
from typing import Any

import safetensors.torch

from ncsnx.inverse.task import Task
from ncsnx.inverse.task_drawing import draw_task, largest_misfit, quality
from ncsnx.storage.atomic import write_bytes, write_json


def record_task(task: Task, folder: Path, samples: Path) -> dict[str, Any]:
    """Writes task.json and the task's grid.png into the folder of the samples, and gives what task.json says.

    Both show the truth that the task has, if it has one. Raises NcsnxError.
    """
    content = samples.read_bytes()
    images = safetensors.torch.load(content)["samples"]
    found = quality(task, images)
    each = len(images) // task.count
    pictures: list[dict[str, Any]] = [
        {"picture": name, "images": [place * each, (place + 1) * each]} for place, name in enumerate(task.names)
    ]
    for picture, of in zip(pictures, found, strict=False):
        picture |= {"psnr_of_mean": _finite(of.of_mean), "psnr_of_one": _finite(of.of_one)}
    record = {
        "task": task.name,
        "misfit": largest_misfit(task, images),
        "samples_sha256": hashlib.sha256(content).hexdigest(),
        "pictures": pictures,
    }
    write_bytes(folder / "grid.png", draw_task(task, images))
    write_json(folder / "task.json", record)
    return record


def _finite(psnr: float) -> float | None:
    return psnr if math.isfinite(psnr) else None
