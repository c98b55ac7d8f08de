"""The tasks of `ncsnx restore`, by names and files, or as objects of Python."""

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import attrs

from ncsnx.commands import values
from ncsnx.commands.command import Panel, option
from ncsnx.errors import Hint, NcsnxError, UsageError, quoted
from ncsnx.spelling import argument, parameter

if TYPE_CHECKING:
    from ncsnx.inverse.task import Task
    from ncsnx.inverse.task_pictures import GivenPictures
    from ncsnx.inverse.tasks_from_files import Rectangle
    from ncsnx.space import Space


@attrs.frozen(kw_only=True)
class _Kind:
    """A task by its parameters."""

    needs: tuple[str, ...] = ()
    """The other parameters that it needs."""
    takes: tuple[str, ...] = ()
    """Further parameters that it takes."""
    is_picture: bool = True
    """Whether it begins with pictures, which may be objects in Python (`GivenPictures`)."""
    is_whole: bool = False
    """Whether the restored pictures have the size of the given ones, or `factor` times that."""


_TASKS = {
    "denoise": _Kind(takes=("gain",), is_whole=True),
    "jpeg": _Kind(is_whole=True),
    "inpaint": _Kind(needs=("mask",), takes=("fit",), is_whole=True),
    "outpaint": _Kind(takes=("at",)),
    "super_resolve": _Kind(needs=("factor",), takes=("fit",), is_whole=True),
    "colorize": _Kind(takes=("fit",), is_whole=True),
    "deblur": _Kind(needs=("blur",), is_whole=True),
    "measure": _Kind(takes=("maps", "centered"), is_picture=False),
    "operator": _Kind(needs=("input",), is_picture=False),
}
_EXAMPLES: dict[str, list[tuple[str, object]]] = {
    "blur": [("half the width in pixels of what should be a sharp edge; try several", 1.5)],
    "factor": [("such as", 2)],
    "mask": [("a picture that is white where it is filled in, or a rectangle", (20, 30, 60, 90))],
}
"""Parameter that a task needs → what to give, and an example."""
_ANYWHERE = ("noise", "truth", "rule")


@attrs.frozen(slots=False, kw_only=True)
class Tasks:
    """A task and its details; None: not given."""

    denoise: Annotated["GivenPictures | None", option(Panel.TASK, "PICTURE", parse=values.path)] = None
    """Remove noise from a picture, gray or in colors: of the standard deviation `noise`, by default estimated."""
    jpeg: Annotated[Path | str | None, option(Panel.TASK, "FILE", parse=values.path)] = None
    """Remove the blocks of a JPEG, by what its tables say was lost."""
    inpaint: Annotated["GivenPictures | None", option(Panel.TASK, "PICTURE", parse=values.path)] = None
    """Fill in the part of a picture that `mask` marks."""
    mask: Annotated["GivenPictures | Rectangle | None", option(Panel.TASK, "PICTURE|RECTANGLE", parse=values.mask)] = (
        None
    )
    """Mask of `inpaint`: black is known, white is filled in; or the rectangle that is filled in, LEFT,TOP,RIGHT,BOTTOM
    in pixels, right and bottom not included."""
    fit: Annotated[bool, option(Panel.TASK)] = False
    """Resize and crop image files of other sizes, mask and truth too, as training images are, in `inpaint`,
    `super_resolve` and `colorize`."""
    outpaint: Annotated["GivenPictures | None", option(Panel.TASK, "PICTURE", parse=values.path)] = None
    """Fill in around a picture that is smaller than the images."""
    at: Annotated[tuple[int, int] | None, option(Panel.TASK, "X,Y", default="centered", parse=values.corner)] = None
    """Upper left corner of the picture of `outpaint`."""
    super_resolve: Annotated["GivenPictures | None", option(Panel.TASK, "PICTURE", parse=values.path)] = None
    """Enlarge a picture by `factor`."""
    factor: Annotated[int | None, option(Panel.TASK, "F")] = None
    """Whole number from 2 on, for `super_resolve`."""
    colorize: Annotated["GivenPictures | None", option(Panel.TASK, "PICTURE", parse=values.path)] = None
    """Color a gray picture."""
    deblur: Annotated["GivenPictures | None", option(Panel.TASK, "PICTURE", parse=values.path)] = None
    """Sharpen a picture that a Gaussian of `blur` pixels blurred."""
    blur: Annotated[float | None, option(Panel.TASK, "SIGMA")] = None
    """Standard deviation of the Gaussian of `deblur`, in pixels."""
    measure: Annotated[Path | str | None, option(Panel.SCIENCE, "FILE", parse=values.path)] = None
    """Reconstruct images from the arrays of a .npz, HDF5 or MATLAB 7.3 file: kspace and mask, in the order and scale of
    numpy.fft.fft2(image, norm="ortho"), with an axis of coils and their maps, if several; sinogram and angles in
    degrees; or matrix and y. Values are the data's own: from low to high for arrays, as packed, without limits if
    unbounded, else from 0 to 1."""
    operator: Annotated[str | None, option(Panel.SCIENCE, "TAG")] = None
    """A task that an installed package registers."""
    input: Annotated[Path | str | None, option(Panel.SCIENCE, "FILE", parse=values.path)] = None
    """Measurement for `operator`."""
    maps: Annotated[
        Path | str | None,
        option(Panel.SCIENCE, "FILE|estimate", default="in the file, else estimated", parse=str),
    ] = None
    """Sensitivity maps of the coils of `measure`, as a .npy or the array maps of another file, or estimated from the
    fully sampled center of kspace."""
    centered: Annotated[
        bool | None, option(Panel.SCIENCE, default="it comes first; energy in the middle is refused")
    ] = None
    """Whether frequency 0 of kspace and mask of `measure` is in the middle, as in fastMRI's files, or comes first."""
    rule: Annotated[
        str | None,
        option(Panel.SCIENCE, "NAME", default="auto: exact if possible, else cg, else dps", complete="rule"),
    ] = None
    """How the sampler uses the measurement: exact (by singular values), reverse (the reverse diffusion begins at the
    picture; default of `denoise`), cg (data consistency by conjugate gradients),
    langevin (annealed likelihood score, for Langevin samplers), dps (gradients through the network, for what is not
    linear) or the rule of an installed package."""
    noise: Annotated[
        float | Literal["auto"] | None,
        option(
            Panel.MEASUREMENT,
            "STD|auto",
            default="that of the training images if noisy, else auto to denoise and deblur without gain; else 0",
            parse=values.noise,
        ),
    ] = None
    """Standard deviation of the measurement's noise, where black is 0 and white 1; for unbounded data in its own
    values. auto: estimated, for `denoise` and `deblur`. A file of `measure` may have one for each value."""
    gain: Annotated[float | None, option(Panel.MEASUREMENT, "G", default="by the estimate", parse=values.fraction)] = (
        None
    )
    """Shot noise in `denoise`: a value v has the variance G · v + noise², in the units of `noise`, which is 0 unless it
    is given: 1/60 for 60 counts at white."""
    truth: Annotated["GivenPictures | None", option(Panel.MEASUREMENT, "PICTURE", parse=values.path)] = None
    """The true picture, to compare with: PSNR, SSIM, NMSE, calibration. Folders are matched by file name; one .npy may
    hold the truths of all pictures."""

    def given(self) -> dict[str, Any]:
        """The parameters that were given, by name."""
        values_of = {field.name: getattr(self, field.name) for field in attrs.fields(Tasks)}
        return {name: value for name, value in values_of.items() if value is not None and value is not False}

    def require_one(self) -> None:
        """Raises UsageError unless they name one task and fit it."""
        given = self.given()
        chosen = [task for task in _TASKS if task in given]
        if not chosen and not given.keys() - _ANYWHERE:
            *tasks, last = map(parameter, _TASKS)
            raise UsageError(f"expected one task, found none: give {', '.join(tasks)} or {last}")
        if len(chosen) > 1:
            raise UsageError(f"{parameter(chosen[0])} and {parameter(chosen[1])}: give one task at a time")
        kinds = {task: (*kind.needs, *kind.takes) for task, kind in _TASKS.items()}
        known = {*_ANYWHERE, *chosen, *(other for task in chosen for other in kinds[task])}
        if stray := sorted(given.keys() - known):
            task = next(task for task, others in kinds.items() if stray[0] in others)
            raise UsageError(f"{parameter(stray[0])} goes with {parameter(task)}, which is not given")
        for other in _TASKS[chosen[0]].needs:
            if other not in given:
                hints = [Hint(label, adds=argument(other, value)) for label, value in _EXAMPLES.get(other, ())]
                raise UsageError(f"{parameter(chosen[0])} needs {parameter(other)}, which is not given", *hints)

    def build(self, space: "Space", made: Path, least_noise: float = 0.0, *, any_sigma: bool = True) -> "Task":
        """The task for images in this space. Raises UsageError, NcsnxError.

        made: a folder for the files of pictures that are objects. least_noise, any_sigma: the smallest noise that the
        model knows, where black is 0 and white 1, and whether it knows any, for what is estimated.
        """
        from ncsnx.inverse.task_pictures import as_file
        from ncsnx.inverse.tasks_from_files import with_truth

        given = self.given()
        inputs = [*(name for name, kind in _TASKS.items() if kind.is_picture), "truth"]
        pictures = {name: as_file(name, given[name], made, space) for name in inputs if name in given}
        task = self._task(pictures, space, made, least_noise, any_sigma=any_sigma)
        if self.denoise is None and self.deblur is None and self.noise is not None:
            if not isinstance(task.noise, int | float):
                raise UsageError(
                    f"{parameter('noise')}: {task.name} has the noise of each value; leave {parameter('noise')} out"
                )
            task = attrs.evolve(task, noise=self._known_noise(space))
        if self.rule is not None:
            task = attrs.evolve(task, rule=self.rule)
        truth = pictures.pop("truth", None)
        of_task = next(iter(pictures.values()), None) or Path(str(self.measure or self.input))
        return with_truth(task, truth, space, of_task, fit=self._fits)

    def _known_noise(self, space: "Space") -> float:
        """The noise, where black is 0 and white 1. Raises UsageError."""
        if not isinstance(self.noise, int | float):
            expected = f"expected a number, or 'auto' with {parameter('denoise')} or {parameter('deblur')}"
            raise UsageError(f"{parameter('noise')} {quoted(self.noise)}: {expected}")
        if self.noise > 1 and space.bounded and self.measure is None and self.operator is None:
            of_255 = Hint(f"for {self.noise:g} of 255", adds=argument("noise", f"{self.noise / 255:.3g}"))
            raise UsageError(f"{parameter('noise')} {self.noise:g}: expected at most 1: black is 0 and white 1", of_255)
        return self.noise / space.span

    def whole_pictures(self) -> "tuple[str, GivenPictures | None]":
        """The parameter of pictures that are restored at their own size, and what was given; of other tasks None."""
        given = ((name, getattr(self, name)) for name, kind in _TASKS.items() if kind.is_whole)
        return next(((name, one) for name, one in given if one is not None), ("", None))

    def own_size(self, made: Path, space: "Space") -> tuple[int, int] | None:
        """Height and width of the restored pictures, by the given ones; None for a task of another kind.

        made, space: as in `build`.
        """
        from ncsnx.inverse.restoration_defaults import restored_size
        from ncsnx.inverse.task_pictures import as_file

        name, given = self.whole_pictures()
        if given is None:
            return None
        return restored_size(name, as_file(name, given, made, space), space.shape[0], self.factor or 1)

    @property
    def _fits(self) -> bool | None:
        """Whether pictures of other sizes are resized and cropped; None if the task doesn't offer that."""
        offered = any("fit" in kind.takes and getattr(self, name) is not None for name, kind in _TASKS.items())
        return self.fit if offered else None

    def _task(
        self, pictures: dict[str, Path], space: "Space", made: Path, least_noise: float, *, any_sigma: bool
    ) -> "Task":
        from ncsnx.inverse import tasks_from_files
        from ncsnx.inverse.measured_files import reconstruct
        from ncsnx.inverse.noisy_pictures.denoising import denoise
        from ncsnx.inverse.noisy_pictures.jpeg_picture import restore_jpeg
        from ncsnx.inverse.task_pictures import as_file, mask_space

        match pictures:
            case {"denoise": picture}:
                values.require_no_gain(self.noise, self.gain)
                noise = self._known_noise(space) if isinstance(self.noise, int | float) else self.noise
                gain = None if self.gain is None else self.gain / space.span
                return denoise(picture, space, noise, gain, least_noise=least_noise, any_sigma=any_sigma)
            case {"jpeg": picture}:
                return restore_jpeg(picture, space)
            case {"inpaint": picture}:
                mask = (
                    self.mask if isinstance(self.mask, tuple) else as_file("mask", self.mask, made, mask_space(space))
                )
                return tasks_from_files.inpaint(picture, mask, space, fit=self._fits)
            case {"outpaint": picture}:
                return tasks_from_files.outpaint(picture, self.at, space)
            case {"super_resolve": picture} if self.factor is not None:
                return tasks_from_files.super_resolve(picture, self.factor, space, fit=self._fits)
            case {"colorize": picture}:
                return tasks_from_files.colorize(picture, space, fit=self._fits)
            case {"deblur": picture} if self.blur is not None:
                noise = None if self.noise in (None, "auto") else self._known_noise(space)
                return tasks_from_files.deblur(picture, self.blur, space, noise)
        if self.measure is not None:
            maps = None if self.maps is None else str(self.maps)
            return reconstruct(Path(self.measure), space, maps=maps, centered=self.centered)
        assert self.operator is not None, "require_one"
        return _task_of_package(self.operator, Path(str(self.input)), space.shape).divided(space.span)


def _task_of_package(tag: str, file: Path, shape: tuple[int, int, int]) -> "Task":
    from ncsnx.config.variants import load_plugins
    from ncsnx.inverse.operators.measurement_map import fingerprint
    from ncsnx.inverse.task import Task
    from ncsnx.inverse.tasks_from_files import registered_tasks

    load_plugins("ncsnx.runtime")
    tasks = registered_tasks()
    if tag not in tasks:
        known = f"expected one of {', '.join(sorted(tasks))}" if tasks else "no installed package registers a task"
        raise UsageError(f"{parameter('operator')} {tag[:80]!a}: unknown task; {known}")
    maker = tasks[tag].make
    try:
        task = maker(file, shape)
    except NcsnxError:
        raise
    except Exception as error:  # the package's code may raise anything
        line = traceback.extract_tb(error.__traceback__)[-1]
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise NcsnxError(f"{parameter('operator')} {tag}: {line.filename}:{line.lineno}: {reason}") from error
    if not isinstance(task, Task):
        name = f"{maker.__module__}.{getattr(maker, '__qualname__', tag)}"
        raise NcsnxError(
            f"{parameter('operator')} {tag}: expected {name} to return a Task, found {type(task).__name__}"
        )
    return attrs.evolve(task, facts={**task.facts, "operator": tag, "operator_sha256": fingerprint(task.operator)})
