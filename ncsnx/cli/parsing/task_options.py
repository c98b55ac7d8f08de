"""The tasks that `ncsnx sample` can be given, as typed."""

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import attrs
import typer

from ncsnx.cli.path_parameters import a_path

if TYPE_CHECKING:
    from ncsnx.config.data_sets import Data
    from ncsnx.inverse.task import Task
    from ncsnx.inverse.task_pictures import ValueRange

_PANEL = "Images that agree with a picture"

Inpaint = Annotated[
    Path | None,
    typer.Option(
        "--inpaint",
        metavar="PICTURE",
        parser=a_path,
        help="Fill in what --mask says. A PICTURE is a file, or a folder of some: PNGs and the like or, of any number "
        "of channels, .npy: H×W×C numbers in the data's own values (see --measure).",
        rich_help_panel=_PANEL,
    ),
]
Mask = Annotated[
    Path | None,
    typer.Option(
        "--mask", metavar="PICTURE", parser=a_path, help="Black: known; white: to be filled in.", rich_help_panel=_PANEL
    ),
]
Outpaint = Annotated[
    Path | None,
    typer.Option(
        "--outpaint", metavar="PICTURE", parser=a_path, help="Fill in around a smaller picture.", rich_help_panel=_PANEL
    ),
]
At = Annotated[
    str | None,
    typer.Option("--at", metavar="X,Y", help="Its upper left corner. [in the middle]", rich_help_panel=_PANEL),
]
SuperResolve = Annotated[
    Path | None,
    typer.Option(
        "--super-resolve", metavar="PICTURE", parser=a_path, help="Enlarge by --factor.", rich_help_panel=_PANEL
    ),
]
Factor = Annotated[int | None, typer.Option("--factor", metavar="F", help="A whole number.", rich_help_panel=_PANEL)]
Colorize = Annotated[
    Path | None,
    typer.Option("--colorize", metavar="PICTURE", parser=a_path, help="Colour a grey picture.", rich_help_panel=_PANEL),
]
Deblur = Annotated[
    Path | None,
    typer.Option(
        "--deblur",
        metavar="PICTURE",
        parser=a_path,
        help="Sharpen what a Gaussian of --blur pixels blurred.",
        rich_help_panel=_PANEL,
    ),
]
Blur = Annotated[float | None, typer.Option("--blur", metavar="SIGMA", help="In pixels.", rich_help_panel=_PANEL)]
MeasureFile = Annotated[
    Path | None,
    typer.Option(
        "--measure",
        metavar="FILE.npz",
        parser=a_path,
        help='Fourier measurements: kspace and mask, in the order and scale of numpy.fft.fft2(image, norm="ortho"), of '
        "images in the data's own values: arrays from low to high, a packed set as it was packed, all others from 0 to "
        "1; an array range in the file (black, white) says otherwise. Any other array is refused.",
        rich_help_panel=_PANEL,
    ),
]
Operator = Annotated[
    str | None,
    typer.Option("--operator", metavar="TAG", help="A task that a package brings, of --input.", rich_help_panel=_PANEL),
]
Input = Annotated[
    Path | None, typer.Option("--input", metavar="FILE", parser=a_path, help="For --operator.", rich_help_panel=_PANEL)
]
NoiseDeviation = Annotated[
    float | None,
    typer.Option(
        "--noise",
        metavar="STD",
        help="Standard deviation of the noise in what was measured, where black is 0 and white 1. "
        "[0; of --deblur what 8 bits round away]",
        rich_help_panel=_PANEL,
    ),
]
Truth = Annotated[
    Path | None,
    typer.Option(
        "--truth",
        metavar="PICTURE",
        parser=a_path,
        help="The true picture, to compare with. Folders go together by the names in them.",
        rich_help_panel=_PANEL,
    ),
]


@attrs.frozen(kw_only=True)
class TaskOptions:
    """What was typed."""

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

    def check(self) -> str | None:
        """The option of the task that was typed, None without one; sees that the options go together.

        Raises UsageError.
        """
        from ncsnx.errors import UsageError

        kinds: dict[str, tuple[str, ...]] = {
            "inpaint": ("mask",),
            "outpaint": (),
            "super_resolve": ("factor",),
            "colorize": (),
            "deblur": ("blur",),
            "measure": (),
            "operator": ("input",),
        }
        typed = {name for name, value in attrs.asdict(self, recurse=False).items() if value is not None}
        chosen = [kind for kind in kinds if kind in typed]
        if len(chosen) > 1:
            raise UsageError(f"{_option(chosen[0])} and {_option(chosen[1])}: one task at a time")
        known = {*chosen, *(extra for kind in chosen for extra in (*kinds[kind], "noise", "truth"))}
        known |= {"at"} if chosen == ["outpaint"] else set()
        if stray := sorted(typed - known):
            of = next((kind for kind, extras in kinds.items() if stray[0] in extras), "outpaint")
            wanted = "a task, such as --inpaint" if stray[0] in ("noise", "truth") else _option(of)
            raise UsageError(f"{_option(stray[0])} goes with {wanted}, which is not given")
        if not chosen:
            return None
        for extra in kinds[chosen[0]]:
            if extra not in typed:
                raise UsageError(f"{_option(chosen[0])} takes {_option(extra)} too")
        if self.noise is not None and not 0 <= self.noise <= 10:
            raise UsageError(f"--noise must be between 0 and 10, not {self.noise:g}")
        _corner(self.at)
        return _option(chosen[0])

    def task(self, data: "Data", values: "ValueRange") -> "Task | None":
        """The task for images of this data, in whose own values numbers are; None where none was typed.

        Raises UsageError, NcsnxError.
        """
        from ncsnx.inverse.frequencies import range_in
        from ncsnx.inverse.tasks import with_truth

        if self.check() is None:
            return None
        task = _made(self, data, values)
        task.require_fit(data)
        if self.noise is not None:
            task = attrs.evolve(task, noise=self.noise)
        of_truth = values if self.measure is None else range_in(self.measure, values)
        return with_truth(task, self.truth, self._inputs, of_truth)

    @property
    def _inputs(self) -> Path | None:
        """Where the pictures of the task are."""
        given = (self.inpaint, self.outpaint, self.super_resolve, self.colorize, self.deblur, self.measure, self.input)
        return next((path for path in given if path is not None), None)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _corner(text: str | None) -> tuple[int, int] | None:
    from ncsnx.errors import UsageError

    if text is None:
        return None
    words = text.split(",")
    if len(words) != 2 or not all(word.strip().isdecimal() and len(word) < 7 for word in words):
        raise UsageError(f"--at {text[:80]!a}: expected two whole numbers with a comma, such as 2,3")
    return int(words[0]), int(words[1])


def _made(typed: TaskOptions, data: "Data", values: "ValueRange") -> "Task":
    """The one task that was typed, with what it takes. Raises UsageError, NcsnxError."""
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
            return _of_a_package(tag, file, data)
    raise AssertionError(f"no task is made of {typed}")


def _of_a_package(tag: str, file: Path, data: "Data") -> "Task":
    from ncsnx.config.variants import load_plugins
    from ncsnx.errors import NcsnxError, UsageError
    from ncsnx.inverse.operators import fingerprint
    from ncsnx.inverse.task import Task
    from ncsnx.inverse.task_registry import registered_tasks

    load_plugins("ncsnx.runtime")
    there = registered_tasks()
    if tag not in there:
        known = ", ".join(sorted(there)) or "none: no installed package registers one"
        raise UsageError(f"--operator {tag[:80]!a}: unknown; there are {known}")
    maker = there[tag].make
    try:
        task = maker(file, data.shape)
    except NcsnxError:
        raise
    except Exception as error:  # whatever somebody else's code raises
        place = traceback.extract_tb(error.__traceback__)[-1]
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise NcsnxError(f"--operator {tag}: {place.filename}:{place.lineno}: {what}") from error
    if not isinstance(task, Task):
        name = f"{maker.__module__}.{getattr(maker, '__qualname__', tag)}"
        raise NcsnxError(f"--operator {tag}: expected {name} to return a Task, found {type(task).__name__}")
    return attrs.evolve(task, facts={**task.facts, "operator": tag, "operator_sha256": fingerprint(task.operator)})
