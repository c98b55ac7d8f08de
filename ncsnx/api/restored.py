"""Restores pictures from Python, as `ncsnx restore` does."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import attrs
import safetensors.torch

from ncsnx.api.arguments import image_size_of
from ncsnx.api.choices import experiment_with, runtime_or_default
from ncsnx.api.given_pictures import GivenPictures, as_file, file_of_arrays
from ncsnx.api.python_call import python_call
from ncsnx.config.image_sizes import ImageSize
from ncsnx.config.sampler import Sampler
from ncsnx.console.working import work_of
from ncsnx.data.transforms import window_of
from ncsnx.errors import UsageError
from ncsnx.images import ImageBatch
from ncsnx.inverse.calibration import CALIBRATION_TITLES, Calibration, calibration_in_words, calibration_rows
from ncsnx.inverse.posterior_maps import POSTERIOR_FILE, PosteriorMaps, read_posterior
from ncsnx.inverse.task import Task
from ncsnx.inverse.task_record import CALIBRATION_FILE, PictureRecord, misfit_in_words
from ncsnx.inverse.tasks_from_files import Rectangle
from ncsnx.inverse.values import range_of
from ncsnx.jobs.restoration_job import Restoration, RestorationJob, carry_out_restoration
from ncsnx.jobs.sampler_choice import with_restoring_sampler
from ncsnx.jobs.start_choice import StartOptions
from ncsnx.jobs.task_building import build_task, result_range
from ncsnx.jobs.task_choice import TaskOptions
from ncsnx.notebooks import heading, html_table, picture_html, remark
from ncsnx.quantities import counted
from ncsnx.runs.exported import Export
from ncsnx.runs.folder import Run
from ncsnx.runs.names import runs_folder
from ncsnx.runs.selection import Source, open_source
from ncsnx.runtime import Runtime
from ncsnx.sampling.request import SampleRequest, images_at_once, shape_at
from ncsnx.spelling import parameter


@attrs.frozen(kw_only=True)
class RestoredImages:
    """Images that agree with measurements, in a folder with their protocol."""

    source: Source
    """The run or exported model that drew them."""
    task: str
    """Name of the task."""
    folder: Path
    """Folder of everything that was written."""
    samples: Path
    """File of all images: safetensors, one tensor `samples`, float32 in [0, 1], or own values of unbounded data."""
    grid: Path
    """A PNG: each picture as given, its first images, their mean and their spread."""
    images: tuple[Path, ...]
    """A PNG for each image, those of one picture after the other."""
    misfit: float
    """Largest difference to the measurement, where black is 0 and white 1; in own values of unbounded data."""
    pictures: tuple[PictureRecord, ...]
    """The images of each picture, and their distances to the truth if it is known."""
    posterior: Path
    """File of the maps: safetensors, tensors (P, C, H, W) float32 in the data's own values."""
    calibration: Calibration | None
    """Shares of truths within the central 50, 80 and 95 % of their alternatives; None without a truth."""
    calibration_plot: Path | None
    """A PNG of these shares; None if there is no truth, or too few alternatives."""

    def tensor(self) -> ImageBatch:
        """All images, (N, C, H, W) float32 on the CPU: in [0, 1], or unbounded; read at each call."""
        images = safetensors.torch.load_file(self.samples)["samples"]
        return ImageBatch.of(images, window_of(self.source.experiment().data))

    def maps(self) -> PosteriorMaps:
        """Mean, deviation and quantiles of the images of each picture; read at each call."""
        return read_posterior(self.posterior)

    def _repr_html_(self) -> str:
        title = f"{self.task}: {counted(len(self.images), 'image')} of {counted(len(self.pictures), 'picture')}"
        misfit = misfit_in_words(self.misfit, bounded=self.source.experiment().data.is_bounded)
        shown = picture_html(self.grid.read_bytes(), title) if self.grid.is_file() else ""
        told = heading(title, str(self.folder)) + shown + remark(f"largest difference from the measurement: {misfit}")
        if self.calibration is None:
            return told
        rows = calibration_rows(self.calibration)
        words = "; ".join(calibration_in_words(self.calibration).splitlines())
        return told + html_table(CALIBRATION_TITLES, rows, ["right"] * 3) + remark(words)


def restore(
    source: Source | Path | str,
    task: Task | None = None,
    *,
    inpaint: GivenPictures | None = None,
    mask: GivenPictures | Rectangle | None = None,
    fit: bool = False,
    outpaint: GivenPictures | None = None,
    at: tuple[int, int] | None = None,
    super_resolve: GivenPictures | None = None,
    factor: int | None = None,
    colorize: GivenPictures | None = None,
    deblur: GivenPictures | None = None,
    blur: float | None = None,
    measure: Path | str | None = None,
    maps: Path | str | None = None,
    centred: bool | None = None,
    rule: str | None = None,
    operator: str | None = None,
    input: Path | str | None = None,
    noise: float | None = None,
    truth: GivenPictures | None = None,
    ckpt: int | str | None = None,
    n: int = 4,
    size: ImageSize | None = None,
    seed: int = 0,
    start: Path | str | None = None,
    start_sigma: float | None = None,
    sampler: Sampler | Literal["fast"] | None = None,
    frames: int = 0,
    film: bool = False,
    out: Path | str | None = None,
    overwrite: bool = False,
    note: str = "",
    runs: Path | str | None = None,
    data: Path | str | None = None,
    batch_size: int | None = None,
    runtime: Runtime | None = None,
    progress: bool | None = None,
) -> RestoredImages:
    """Draws images that agree with pictures or other measurements, into a folder; see `ncsnx restore`.

    source: a Run, an Export, a name in the runs folder, or a path.
    task: a task of your own, a Task; else exactly one of inpaint (with mask), outpaint (with
    at), super_resolve (with factor), colorize, deblur (with blur), measure, and operator (with input), which take what
    the options of `ncsnx restore` take; pictures, mask and truth also as Pillow images, arrays or tensors (see
    `GivenPictures`). at: the corner (x, y). mask: also the rectangle (left, top, right, bottom) that is filled in, in
    pixels, right and bottom not included. fit: resize and crop image files of other sizes.
    noise: standard deviation of the measurement's noise, where black is 0 and white 1; of unbounded data in own values.
    truth: true pictures, to compare with. maps: coil maps for `measure`: a file, or 'estimate'. centred: whether
    frequency 0 of kspace is in the middle, as in fastMRI's files. rule: 'exact', 'cg', 'langevin' or 'dps'; default:
    exact if possible, else cg, else dps. start_sigma: begin at this level, from the image `start`: a picture, or
    'adjoint', the default, an image of the measurement alone. n: images per picture. size: height and width of the
    images, as in `sample`. ckpt: a step, 'latest' or 'best'; None for an exported model. sampler: default: 100 steps of
    `cas`, which reaches the posterior; 'fast': the one that `compare` stored. frames, film: also write pictures or a
    film of the sampling.
    out: default: a folder named after the protocol, in the run. overwrite: replace samples of another protocol there.
    runs, data, batch_size, runtime, progress: as in `fid`.

    Raises NcsnxError, UsageError. Ctrl-C raises KeyboardInterrupt; the same call resumes after the last finished batch.
    """
    pictures = {
        "inpaint": inpaint,
        "outpaint": outpaint,
        "super_resolve": super_resolve,
        "colorize": colorize,
        "deblur": deblur,
        "truth": truth,
    }
    size = image_size_of(size)
    beginning = StartOptions(sigma=start_sigma, image=None if start is None else str(start))
    beginning.check(measured=True)
    place = source if isinstance(source, Run | Export) else open_source(runs_folder(runs), source)
    folder = None if data is None else Path(data)
    values = range_of(place.experiment().data, folder, place)
    with TemporaryDirectory(prefix="ncsnx-") as made:
        files = {
            name: as_file(name, given, Path(made), values) for name, given in pictures.items() if given is not None
        }
        chosen = TaskOptions(
            **files,
            mask=mask if mask is None or isinstance(mask, tuple) else as_file("mask", mask, Path(made)),
            measure=file_of_arrays("measure", measure),
            input=file_of_arrays("input", input),
            fit=fit or None,
            at=None if at is None else ",".join(map(str, at)),
            factor=factor,
            blur=blur,
            maps=None if maps is None else str(maps),
            centred=centred,
            rule=rule,
            operator=operator,
            noise=noise,
        )
        _require_one(task, chosen, bounded=place.experiment().data.is_bounded)
        with python_call(progress) as (messages, stop):
            work = work_of(messages, stop)
            if sampler is None:
                experiment = with_restoring_sampler(work, place, [], chosen.rule if task is None else task.rule)
            else:
                experiment = experiment_with(work, place, sampler)
            shape = shape_at(experiment.data, size)
            job = RestorationJob(
                source=place,
                experiment=experiment,
                ckpt=ckpt,
                task=lambda: build_task(chosen, experiment.data, values, shape) if task is None else task,
                values=result_range(chosen, values),
                start=lambda model, task: beginning.applied(model, task, values),
                n=n,
                size=size,
                request=SampleRequest(
                    seed=seed, batch_size=images_at_once(experiment.data, batch_size, size), frames=frames, film=film
                ),
                runtime=lambda: runtime_or_default(runtime, experiment),
                out=None if out is None else Path(out),
                data=folder,
                overwrite=overwrite,
                note=note,
            )
            restored = carry_out_restoration(job, work, stop)
            assert restored is not None, "there are no other ranks"
            return _restored(place, restored)


def _require_one(task: Task | None, chosen: TaskOptions, *, bounded: bool) -> None:
    """Raises UsageError unless there is one task, as an object or by its parameters."""
    if task is None:
        chosen.check(bounded=bounded)
    elif chosen != TaskOptions():
        given = next(field.name for field in attrs.fields(TaskOptions) if getattr(chosen, field.name) is not None)
        raise UsageError(f"{parameter('task')} and {parameter(given)}: give one of them")


def _restored(source: Source, restored: Restoration) -> RestoredImages:
    output, record = restored.output, restored.record
    plot = output.path / CALIBRATION_FILE
    return RestoredImages(
        source=source,
        task=record.task,
        folder=output.path,
        samples=output.samples_path,
        grid=output.path / "grid.png",
        images=tuple(sorted((output.path / "images").glob("*.png"))),
        misfit=record.misfit,
        pictures=record.pictures,
        posterior=output.path / POSTERIOR_FILE,
        calibration=record.calibration,
        calibration_plot=plot if plot.is_file() else None,
    )
