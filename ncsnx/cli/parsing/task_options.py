"""The tasks of `ncsnx restore`, as typed."""

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import attrs
import typer

from ncsnx.cli.options import MEASUREMENT_PANEL
from ncsnx.cli.path_parameters import a_path

if TYPE_CHECKING:
    from ncsnx.config.data_sets import Data
    from ncsnx.inverse.task import Task
    from ncsnx.inverse.task_pictures import ValueRange

_TASK = "Task (give one)"

Inpaint = Annotated[
    Path | None,
    typer.Option(
        "--inpaint",
        metavar="PICTURE",
        parser=a_path,
        help="Fill in the part of a picture that --mask marks.",
        rich_help_panel=_TASK,
    ),
]
Mask = Annotated[
    Path | None,
    typer.Option(
        "--mask",
        metavar="PICTURE",
        parser=a_path,
        help="For --inpaint: black is known, white is filled in.",
        rich_help_panel=_TASK,
    ),
]
Outpaint = Annotated[
    Path | None,
    typer.Option(
        "--outpaint",
        metavar="PICTURE",
        parser=a_path,
        help="Fill in around a picture that is smaller than the images.",
        rich_help_panel=_TASK,
    ),
]
At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="X,Y",
        help="For --outpaint: the picture's upper left corner.",
        show_default="centred",
        rich_help_panel=_TASK,
    ),
]
SuperResolve = Annotated[
    Path | None,
    typer.Option(
        "--super-resolve",
        metavar="PICTURE",
        parser=a_path,
        help="Enlarge a picture by --factor.",
        rich_help_panel=_TASK,
    ),
]
Factor = Annotated[
    int | None,
    typer.Option("--factor", metavar="F", help="For --super-resolve: a whole number from 2 on.", rich_help_panel=_TASK),
]
Colorize = Annotated[
    Path | None,
    typer.Option("--colorize", metavar="PICTURE", parser=a_path, help="Colour a grey picture.", rich_help_panel=_TASK),
]
Deblur = Annotated[
    Path | None,
    typer.Option(
        "--deblur",
        metavar="PICTURE",
        parser=a_path,
        help="Sharpen a picture that a Gaussian of --blur pixels blurred.",
        rich_help_panel=_TASK,
    ),
]
Blur = Annotated[
    float | None,
    typer.Option(
        "--blur",
        metavar="SIGMA",
        help="For --deblur: standard deviation of the Gaussian, in pixels.",
        rich_help_panel=_TASK,
    ),
]
MeasureFile = Annotated[
    Path | None,
    typer.Option(
        "--measure",
        metavar="FILE.npz",
        parser=a_path,
        help="Reconstruct images from Fourier measurements: the arrays kspace and mask, in the order and scale of "
        'numpy.fft.fft2(image, norm="ortho"), of images in the data\'s own values. Those run from low to high for '
        "arrays, are as packed for a packed set, and run from 0 to 1 for others; an optional array range (black, "
        "white) says otherwise.",
        rich_help_panel=_TASK,
    ),
]
Operator = Annotated[
    str | None,
    typer.Option(
        "--operator", metavar="TAG", help="A task that an installed package registers.", rich_help_panel=_TASK
    ),
]
Input = Annotated[
    Path | None,
    typer.Option(
        "--input", metavar="FILE", parser=a_path, help="For --operator: its measurement.", rich_help_panel=_TASK
    ),
]
NoiseDeviation = Annotated[
    float | None,
    typer.Option(
        "--noise",
        metavar="STD",
        help="Standard deviation of the measurement's noise, where black is 0 and white 1.",
        show_default="0; 8-bit rounding for --deblur",
        rich_help_panel=MEASUREMENT_PANEL,
    ),
]
Truth = Annotated[
    Path | None,
    typer.Option(
        "--truth",
        metavar="PICTURE",
        parser=a_path,
        help="The true picture, to compare with (PSNR). Folders are matched by file name.",
        rich_help_panel=MEASUREMENT_PANEL,
    ),
]

_NEEDED: dict[str, tuple[str, ...]] = {
    "inpaint": ("mask",),
    "outpaint": (),
    "super_resolve": ("factor",),
    "colorize": (),
    "deblur": ("blur",),
    "measure": (),
    "operator": ("input",),
}
"""Task → the other options that it needs."""


@attrs.frozen(kw_only=True)
class TaskOptions:
    """The options as typed; None: not given."""

    inpaint: Path | None
    mask: Path | None
    outpaint: Path | None
    at: str | None
    super_resolve: Path | None
    factor: int | None
    colorize: Path | None
    deblur: Path | None
    blur: float | None
    measure: Path | None
    operator: str | None
    input: Path | None
    noise: float | None
    truth: Path | None

    def check(self) -> None:
        """Raises UsageError unless the options name one task and fit it."""
        from ncsnx.errors import UsageError

        typed = {name for name, value in attrs.asdict(self, recurse=False).items() if value is not None}
        chosen = [task for task in _NEEDED if task in typed]
        if not chosen and not typed - {"noise", "truth"}:
            *tasks, last = map(_option, _NEEDED)
            raise UsageError(f"expected one task, found none: give {', '.join(tasks)} or {last}")
        if len(chosen) > 1:
            raise UsageError(f"{_option(chosen[0])} and {_option(chosen[1])}: give one task at a time")
        known = {"noise", "truth", *chosen, *(other for task in chosen for other in _NEEDED[task])}
        known |= {"at"} if chosen == ["outpaint"] else set()
        if stray := sorted(typed - known):
            task = next((task for task, others in _NEEDED.items() if stray[0] in others), "outpaint")
            raise UsageError(f"{_option(stray[0])} goes with {_option(task)}, which is not given")
        for other in _NEEDED[chosen[0]]:
            if other not in typed:
                raise UsageError(f"{_option(chosen[0])} needs {_option(other)}, which is not given")
        if self.noise is not None and not 0 <= self.noise <= 10:
            raise UsageError(f"--noise must be between 0 and 10, not {self.noise:g}")
        _corner(self.at)

    def task(self, data: "Data", values: "ValueRange") -> "Task":
        """The task for images of this data. values: black and white in the files of numbers.

        Raises UsageError, NcsnxError.
        """
        from ncsnx.inverse.frequencies import range_in
        from ncsnx.inverse.tasks import with_truth

        self.check()
        task = _task(self, data, values)
        task.require_fit(data)
        if self.noise is not None:
            task = attrs.evolve(task, noise=self.noise)
        of_truth = values if self.measure is None else range_in(self.measure, values)
        return with_truth(task, self.truth, self._inputs, of_truth)

    @property
    def _inputs(self) -> Path | None:
        """The file or folder of the task's pictures."""
        given = (self.inpaint, self.outpaint, self.super_resolve, self.colorize, self.deblur, self.measure, self.input)
        return next((path for path in given if path is not None), None)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


TASK_OPTIONS = tuple(_option(field.name) for field in attrs.fields(TaskOptions))


def _corner(text: str | None) -> tuple[int, int] | None:
    from ncsnx.errors import UsageError

    if text is None:
        return None
    words = text.split(",")
    if len(words) != 2 or not all(word.strip().isdecimal() and len(word) < 7 for word in words):
        raise UsageError(f"--at {text[:80]!a}: expected two whole numbers with a comma, such as 2,3")
    return int(words[0]), int(words[1])


def _task(typed: TaskOptions, data: "Data", values: "ValueRange") -> "Task":
    """The task that was typed. Raises UsageError, NcsnxError."""
    from ncsnx.inverse import tasks

    match typed:
        case TaskOptions(inpaint=Path() as picture, mask=Path() as mask):
            return tasks.inpaint(picture, mask, data.shape, values)
        case TaskOptions(outpaint=Path() as picture):
            return tasks.outpaint(picture, _corner(typed.at), data.shape, values)
        case TaskOptions(super_resolve=Path() as picture, factor=int(factor)):
            return tasks.super_resolve(picture, factor, data.shape, values)
        case TaskOptions(colorize=Path() as picture):
            return tasks.colorize(picture, data.shape, values)
        case TaskOptions(deblur=Path() as picture, blur=float(sigma)):
            return tasks.deblur(picture, sigma, data.shape, values)
        case TaskOptions(measure=Path() as file):
            return tasks.reconstruct(file, data.shape, values)
        case TaskOptions(operator=str(tag), input=Path() as file):
            return _task_of_package(tag, file, data)
    raise AssertionError(f"no task: {typed}")


def _task_of_package(tag: str, file: Path, data: "Data") -> "Task":
    from ncsnx.config.variants import load_plugins
    from ncsnx.errors import NcsnxError, UsageError
    from ncsnx.inverse.operators import fingerprint
    from ncsnx.inverse.task import Task
    from ncsnx.inverse.task_registry import registered_tasks

    load_plugins("ncsnx.runtime")
    tasks = registered_tasks()
    if tag not in tasks:
        known = f"expected one of {', '.join(sorted(tasks))}" if tasks else "no installed package registers a task"
        raise UsageError(f"--operator {tag[:80]!a}: unknown task; {known}")
    maker = tasks[tag].make
    try:
        task = maker(file, data.shape)
    except NcsnxError:
        raise
    except Exception as error:  # the package's code may raise anything
        line = traceback.extract_tb(error.__traceback__)[-1]
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise NcsnxError(f"--operator {tag}: {line.filename}:{line.lineno}: {reason}") from error
    if not isinstance(task, Task):
        name = f"{maker.__module__}.{getattr(maker, '__qualname__', tag)}"
        raise NcsnxError(f"--operator {tag}: expected {name} to return a Task, found {type(task).__name__}")
    return attrs.evolve(task, facts={**task.facts, "operator": tag, "operator_sha256": fingerprint(task.operator)})
