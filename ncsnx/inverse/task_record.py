"""task.json and grid.png, beside the samples of a task: misfit to the measurement, and distances to the truth.

What compares with the truth (see `ncsnx.inverse.posterior.image_quality` and `calibration`) exists if it is known.

grid.png shows the measurement, its alternatives, their mean and spread, and the truth, in the window of the data;
complex values as magnitude, in gray, beside the phase, in colors.
"""

import hashlib
import io
import math
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Literal

import attrs
import numpy as np
import torch
from torch import Tensor

from ncsnx.config.variants import OMITTED, REST, VERSION
from ncsnx.images import GridRow, captioned_grid, png_bytes, to_uint8
from ncsnx.inverse.posterior.calibration import Calibration, Coverage, draw_calibration
from ncsnx.inverse.posterior.image_quality import Comparison
from ncsnx.inverse.posterior.maps import POSTERIOR_FILE, pixel_maps, sorted_pixels, write_posterior
from ncsnx.inverse.task import Task
from ncsnx.quantities import counted, number
from ncsnx.runs.result_records import TASK_FILE
from ncsnx.sampling.sample_folder import samples_in
from ncsnx.space import Space
from ncsnx.stopping import check_stop
from ncsnx.storage.atomic import reporting, write_bytes
from ncsnx.storage.documents import document, write_document

CALIBRATION_FILE = "calibration.png"
_GRID_FILE = "grid.png"
MEAN = "mean.png"
_BATCH_BYTES = 2**22
"""Images that are compared at once; some twenty times as much is in memory."""
_ROWS_AT_ONCE = 256
"""Rows of pixels whose deviation is computed at once."""
_ROWS, _COLUMNS = 12, 6
"""Most pictures, and most alternatives of each, that are shown."""


def psnr_in_words(decibels: float | None) -> str:
    """Peak signal-to-noise ratio as text; None is infinite."""
    return "exact" if decibels in (None, float("inf")) else f"{decibels:.1f} dB"


@attrs.frozen(kw_only=True)
class PictureRecord:
    """The images that agree with one picture."""

    picture: str
    """Name of the picture."""
    images: tuple[int, int]
    """Half-open range of indices of its images."""
    range: float | None = attrs.field(default=None, metadata=OMITTED)
    """Range of the values for PSNR and SSIM: that of the data; for unbounded or complex data, the truth's largest
    magnitude. None, like what follows, without a truth."""
    distances: dict[str, float | None] = attrs.field(metadata=REST)
    """psnr_of_mean and psnr_of_one in dB, None for equal images; ssim_of_mean and ssim_of_one, None for images smaller
    than 7×7; nmse_of_mean and nmse_of_one, ‖x − t‖² / ‖t‖², None for a truth of zeros. `of_mean` is of the mean image,
    `of_one` the mean over single images, if there are any. Empty without a truth, or with one of zeros that has no
    range."""

    def in_words(self, which: Literal["mean", "one"]) -> str:
        """The distances of the mean image, or of a single one: 'PSNR 21.5 dB, SSIM 0.8100, NMSE 0.03000'."""
        known = {name: self.distances[f"{name}_of_{which}"] for name in ("ssim", "nmse")}
        others = [f", {name.upper()} {number(value)}" for name, value in known.items() if value is not None]
        return f"PSNR {psnr_in_words(self.distances[f'psnr_of_{which}'])}{''.join(others)}"


def misfit_in_words(misfit: float, *, bounded: bool) -> str:
    """The largest difference to a measurement with its unit. bounded: whether the data is."""
    unit = "where black is 0 and white 1" if bounded else "in the data's own values"
    return f"{number(misfit)}, {unit}"


@document("the record of a task")
@attrs.frozen(kw_only=True)
class TaskRecord:
    """Content of task.json."""

    schema_version: int = attrs.field(default=1, metadata=VERSION)
    task: str
    misfit: float
    """Largest difference to the measurement, where black is 0 and white 1; in own values of unbounded data."""
    in_noise: float | None = attrs.field(default=None, metadata=OMITTED)
    """The largest in standard deviations of the noise; None without noise."""
    samples_sha256: str
    """Hash of the values of all images, as float32 in their order."""
    posterior_sha256: str | None = attrs.field(default=None, metadata=OMITTED)
    """Hash of posterior.safetensors."""
    calibration: Calibration | None = attrs.field(default=None, metadata=OMITTED)
    """None without a truth."""
    pictures: tuple[PictureRecord, ...]

    @property
    def has_alternatives(self) -> bool:
        """Whether there are images besides the means."""
        return self.pictures[-1].images[1] > 0

    @property
    def average(self) -> PictureRecord | None:
        """Means of the distances of all pictures; None for one picture, and where one lacks a distance or is exact."""
        keys = self.pictures[0].distances
        known = {key: [one for each in self.pictures if (one := each.distances.get(key)) is not None] for key in keys}
        if len(self.pictures) < 2 or not keys or any(len(column) < len(self.pictures) for column in known.values()):
            return None
        return PictureRecord(
            picture=f"mean of {counted(len(self.pictures), 'picture')}",
            images=(0, self.pictures[-1].images[1]),
            distances={key: fmean(column) for key, column in known.items()},
        )


def record_task(
    task: Task,
    folder: Path,
    alternatives: int,
    space: Space,
    check_stop: Callable[[], None] = lambda: None,
    means: Tensor | None = None,
    *,
    maps: bool = True,
) -> TaskRecord:
    """Writes posterior.safetensors, calibration.png, grid.png, mean.png and, last, task.json beside the samples.

    alternatives: number of images of each picture; 0 with `means` only. means: of the posterior, (P, C, H, W), if they
    are known better than by the mean of the images; `write_means` wrote them. maps: whether posterior.safetensors is
    written.

    They compare with the truth if the task has one; calibration.png takes one, and alternatives enough for an interval.
    space: that of the model; grid.png shows its window. In memory are the images of one picture and the maps of all;
    check_stop is called between pictures and within large ones, and raises to stop. The caller holds the folder's lock.
    Raises NcsnxError.
    """
    coverage = Coverage.of(task.count, alternatives)
    samples = samples_in(folder)
    files = samples.files()
    values = hashlib.sha256()
    misfits: list[tuple[float, float | None]] = []
    summaries: list[dict[str, Tensor]] = []
    records: list[PictureRecord] = []
    rows: list[GridRow] = []
    pngs: dict[str, bytes] = {}
    for place in range(task.count):
        check_stop()
        measured = task.of(place)
        images = torch.empty(0, *task.operator.shape)
        if alternatives:
            images = samples.read("samples", place * alternatives, alternatives, files)
        check_stop()  # each line takes a second for 12 megapixels
        values.update(images.numpy().tobytes())
        check_stop()
        mean = images.mean(dim=0) if means is None else means[place]
        misfits.append(measured.misfits((images if alternatives else mean[None]) / space.span))
        check_stop()
        if maps and alternatives:
            summaries.append(pixel_maps(images, space))
            if means is not None:
                summaries[-1]["mean"] = space.own_numbers(mean).float()
        records.append(_compared(measured, place, images, mean, space))
        if means is None:
            pngs[mean_file(place, task.count)] = png_bytes(to_uint8(space.pictures.picture(mean)), check_stop)
        if place < _ROWS:
            rows.append(_row(measured, images, mean, space, check_stop))
        if measured.truth is not None and alternatives:
            truth = (measured.truth * space.span).float().flatten()
            reach = 1.0 if space.bounded else float(truth.abs().max())
            for pixels, ordered in sorted_pixels(images):
                coverage.add(place, ordered, truth[pixels].numpy(), reach)
    kind = "alternatives" if means is None else "denoised"
    samples_sha256 = values.hexdigest()
    posterior_sha256, file = None, folder / POSTERIOR_FILE
    if summaries:
        posterior_sha256 = write_posterior(file, summaries, space, alternatives, samples_sha256, mean=kind)
    calibration = None if coverage.is_empty else coverage.result()
    record = TaskRecord(
        task=task.name,
        misfit=space.span * max(away for away, _ in misfits),
        in_noise=max((noisy for _, noisy in misfits if noisy is not None), default=None),
        samples_sha256=samples_sha256,
        posterior_sha256=posterior_sha256,
        calibration=calibration,
        pictures=tuple(records),
    )
    for name, content in {**pngs, _GRID_FILE: captioned_grid(rows, check_stop)}.items():
        write_bytes(folder / name, content)
    if calibration is not None and calibration.is_known:
        write_bytes(folder / CALIBRATION_FILE, draw_calibration(calibration, coverage.curve()))
    else:  # of an earlier truth
        with reporting(folder / CALIBRATION_FILE):
            (folder / CALIBRATION_FILE).unlink(missing_ok=True)
    write_document(folder / TASK_FILE, record)
    return record


def mean_file(place: int, count: int) -> str:
    """Name of the picture of a mean. place: of its picture among `count`."""
    return MEAN if count == 1 else f"mean-{place:05}.png"


def mean_files(folder: Path, count: int) -> Path:
    """The pictures of the means in a folder, for messages."""
    return folder / (MEAN if count == 1 else "mean-….png")


def write_means(folder: Path, means: Tensor, space: Space) -> None:
    """Writes means (P, C, H, W) as pictures and, of unbounded data, the values as mean.npy. Raises NcsnxError."""
    for place, mean in enumerate(means):
        shown = to_uint8(space.pictures.picture(mean))
        write_bytes(folder / mean_file(place, len(means)), png_bytes(shown, check_stop))
    if not space.bounded:
        values = io.BytesIO()
        np.save(values, means.movedim(1, -1).numpy())
        write_bytes(folder / "mean.npy", values.getvalue())


def _compared(task: Task, place: int, images: Tensor, mean: Tensor, space: Space) -> PictureRecord:
    """The record of a task with one picture."""
    indices = (place * len(images), (place + 1) * len(images))
    if (comparison := Comparison.of(task.truth, space)) is None:
        return PictureRecord(picture=task.names[0], images=indices, distances={})
    batches = images.split(max(1, _BATCH_BYTES // mean.nbytes))  # type: ignore[no-untyped-call]
    total = sum((comparison.distances(batch).sum(dim=0) for batch in batches), torch.zeros(3).double())
    of_mean = comparison.distances(mean[None])[0]
    found = {"mean": of_mean, **({"one": total / len(images)} if len(images) else {})}
    distances = {
        f"{name}_of_{which}": value if math.isfinite(value) else None
        for which, row in found.items()
        for name, value in zip(("psnr", "ssim", "nmse"), row.tolist(), strict=True)
    }
    return PictureRecord(picture=task.names[0], images=indices, range=comparison.data_range, distances=distances)


def _row(task: Task, images: Tensor, mean: Tensor, space: Space, check_stop: Callable[[], None]) -> GridRow:
    """The pictures of a task with one picture, each with its caption."""
    truth, window, comparison = task.truth, space.pictures, Comparison.of(task.truth, space)

    def cell(sample: Tensor, place: str = "") -> tuple[Tensor, str]:
        distance = "" if comparison is None else psnr_in_words(float(comparison.distances(sample[None])[0, 0]))
        return to_uint8(window.picture(sample)), ": ".join(filter(None, [place, distance]))

    def of_task(known: Tensor) -> list[tuple[Tensor, str]]:
        return [(to_uint8(window.picture((known * space.span).float()[0])), "")]

    row = {
        "measurement": of_task(task.shown()),
        "images": [cell(sample, str(place)) for place, sample in enumerate(images[:_COLUMNS])],
        "mean": [cell(mean)],
        "spread × 2" if space.bounded else "deviation": [_spread(images, space, check_stop)] if len(images) else [],
        "truth": [] if truth is None else of_task(truth),
    }
    return {title: group for title, group in row.items() if group}


def _spread(images: Tensor, space: Space, check_stop: Callable[[], None]) -> tuple[Tensor, str]:
    """The standard deviation, and what is white."""
    # of values in [0, 1] it is at most ½; else with n − 1 in the denominator, as in posterior.safetensors
    correction = 0 if space.bounded else min(1, len(images) - 1)
    parts = []
    for part in torch.split(images, _ROWS_AT_ONCE, dim=2):
        check_stop()
        parts.append(part.std(dim=0, correction=correction))
    deviation = torch.cat(parts, dim=1)
    if space.bounded:
        return to_uint8(2 * deviation), ""
    if space.complex:  # of the complex value: E |v − E v|² is the sum of both variances
        deviation = torch.hypot(deviation[0::2], deviation[1::2])
    most = float(deviation.max())
    return to_uint8(deviation / most if most > 0 else deviation), f"white: {number(most)}"
