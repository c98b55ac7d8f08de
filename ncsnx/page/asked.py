"""What a browser asks the page for, and the command that does the same."""

import shlex
from collections.abc import Mapping
from typing import Any, Literal

import attrs

from ncsnx.config.converter import structure
from ncsnx.errors import UsageError
from ncsnx.spelling import argument, spelled_by

MOST_ALTERNATIVES = 16
PICTURE, MASK, RESTORED = "picture", "mask.png", "restored.png"
"""Files of the picture (without its suffix), of the mask and of the restored picture."""
SHOWN, WHOLE = "shown.png", "whole.png"
"""Files of the picture as the browser gets it: reduced, and whole."""
_PLACE = "<picture>"
_MEAN_FIRST = ("denoise", "jpeg")


def option(name: str) -> str:
    """A parameter of `ncsnx.restore` as it is typed."""
    return "--" + name.replace("_", "-")


@attrs.frozen(kw_only=True)
class Stroke:
    """A line of the brush, or a rectangle, in pixels of the upright picture."""

    points: tuple[tuple[float, float], ...]
    """(x, y) along the line; of a rectangle two opposite corners."""
    size: float
    """Diameter of the brush; 0 for a rectangle."""
    erase: bool = False


@attrs.frozen(kw_only=True)
class Asked:
    """A restoration, but for its picture and model."""

    task: Literal["denoise", "jpeg", "inpaint", "super_resolve", "deblur"]
    n: int = 0
    """Alternatives."""
    quick: bool = False
    noise: float | None = None
    """Standard deviation, where black is 0 and white 1; None: estimated, or none for tasks other than denoising."""
    factor: int = 2
    blur: float = 1.5
    """Standard deviation of the Gaussian in pixels."""
    strokes: tuple[Stroke, ...] = ()
    fit: bool = False
    """Whether the picture is resized and cropped to the size of the model's images."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Asked":
        """The restoration of plain JSON values. Raises NcsnxError for what the page never asks."""
        asked: Asked = structure(dict(values), cls)
        if not 0 <= asked.n <= MOST_ALTERNATIVES:
            raise UsageError(f"expected 0 to {MOST_ALTERNATIVES} alternatives, found {asked.n}")
        if asked.n == 0 and asked.task not in _MEAN_FIRST:
            raise UsageError("expected at least 1 alternative, found 0")
        if asked.task == "inpaint" and not any(not stroke.erase for stroke in asked.strokes):
            raise UsageError("nothing is painted; paint over what should be filled in")
        return asked

    def parameters(self, picture: str, mask: str) -> dict[str, Any]:
        """The parameters of `ncsnx.restore`. picture, mask: their files."""
        details: dict[str, dict[str, Any]] = {
            "inpaint": {"mask": mask},
            "super_resolve": {"factor": self.factor},
            "deblur": {"blur": self.blur},
        }
        found = {self.task: picture, **details.get(self.task, {})}
        if self.noise is not None and self.task in ("denoise", "deblur"):
            found["noise"] = self.noise
        if self.fit and self.task in ("inpaint", "super_resolve"):
            found["fit"] = True
        if self.n and self.quick:
            found["quick"] = True
        if self.n or self.task not in _MEAN_FIRST:
            found["n"] = self.n
        return found

    def command(self, model: str, runs: str | None) -> list[str]:
        """The command that does the same, in two parts: before and after the name of the picture's file.

        To fill in, the mask is in MASK. runs: folder of the runs, if it isn't the default.
        """
        with spelled_by(option):
            given = {**self.parameters(_PLACE, MASK), "save": RESTORED, **({"runs": runs} if runs else {})}
            words = [argument(name, value) for name, value in given.items()]
        return " ".join(["ncsnx restore", shlex.quote(model), *words]).split(shlex.quote(_PLACE))
