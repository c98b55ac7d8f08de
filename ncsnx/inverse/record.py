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

from ncsnx.inverse.picture import draw_task, misfit, quality
from ncsnx.inverse.task import Task
from ncsnx.runs.atomic import write_bytes, write_json
from ncsnx.runs.parsing import read_json

_PSNRS = ("psnr_of_mean", "psnr_of_one")


def record_task(task: Task, folder: Path, samples: Path) -> dict[str, Any]:
    """Writes task.json and the task's grid.png into the folder of the samples, and gives what task.json says.

    A truth that was given before, for the same samples, stays in both where none is given now. Raises NcsnxError.
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
        "misfit": misfit(task, images),
        "samples_sha256": hashlib.sha256(content).hexdigest(),
        "pictures": pictures,
    }
    before = None if found else _psnrs_of(folder, record)
    if before is None:
        write_bytes(folder / "grid.png", draw_task(task, images))
    else:
        for picture, psnrs in zip(pictures, before, strict=True):
            picture |= psnrs
    write_json(folder / "task.json", record)
    return record


def _psnrs_of(folder: Path, record: dict[str, Any]) -> list[dict[str, float | None]] | None:
    """Those that were recorded of the same samples, where the grid with their truth is there; else None."""
    if not (folder / "grid.png").is_file():
        return None
    try:
        there = read_json(folder / "task.json")
        same = there["samples_sha256"] == record["samples_sha256"] and len(there["pictures"]) == len(record["pictures"])
        psnrs = [{name: picture[name] for name in _PSNRS} for picture in there["pictures"]]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    known = all(value is None or type(value) in (int, float) for picture in psnrs for value in picture.values())
    return psnrs if same and known else None


def _finite(psnr: float) -> float | None:
    return psnr if math.isfinite(psnr) else None
