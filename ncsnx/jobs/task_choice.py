"""The tasks of `restore`, chosen by names and files: the command line types them, and Python passes them.

Imports no torch, so that a choice that makes no sense is refused at once.
"""

import math
import re
from pathlib import Path

import attrs

from ncsnx.errors import UsageError
from ncsnx.spelling import parameter

_NEEDED: dict[str, tuple[str, ...]] = {
    "inpaint": ("mask",),
    "outpaint": (),
    "super_resolve": ("factor",),
    "colorize": (),
    "deblur": ("blur",),
    "measure": (),
    "operator": ("input",),
}
"""Task → the other parameters that it needs."""
_OPTIONAL: dict[str, tuple[str, ...]] = {
    "inpaint": ("fit",),
    "outpaint": ("at",),
    "super_resolve": ("fit",),
    "colorize": ("fit",),
    "measure": ("maps", "centred"),
}
"""Task → further parameters that it takes."""
_ANYWHERE = {"noise", "truth", "rule"}
RULES = ("auto", "exact", "cg", "langevin", "dps")
"""Names of the rules by which a measurement guides the sampler."""


@attrs.frozen(kw_only=True)
class TaskOptions:
    """A task and its details; None: not given."""

    inpaint: Path | None = None
    mask: Path | tuple[int, int, int, int] | None = None
    """A picture, or the rectangle that is filled in: left, top, right, bottom."""
    outpaint: Path | None = None
    at: str | None = None
    super_resolve: Path | None = None
    factor: int | None = None
    colorize: Path | None = None
    deblur: Path | None = None
    blur: float | None = None
    measure: Path | None = None
    maps: str | None = None
    centred: bool | None = None
    rule: str | None = None
    operator: str | None = None
    input: Path | None = None
    noise: float | None = None
    truth: Path | None = None
    fit: bool | None = None

    def check(self, *, bounded: bool = True) -> None:
        """Raises UsageError unless they name one task and fit it. bounded: whether the model's data is."""
        typed = {name for name, value in attrs.asdict(self, recurse=False).items() if value is not None}
        chosen = [task for task in _NEEDED if task in typed]
        if not chosen and not typed - _ANYWHERE:
            *tasks, last = map(parameter, _NEEDED)
            raise UsageError(f"expected one task, found none: give {', '.join(tasks)} or {last}")
        if len(chosen) > 1:
            raise UsageError(f"{parameter(chosen[0])} and {parameter(chosen[1])}: give one task at a time")
        details = [*_NEEDED.items(), *_OPTIONAL.items()]
        known = {*_ANYWHERE, *chosen, *(other for task, others in details if task in chosen for other in others)}
        if stray := sorted(typed - known):
            task = next(task for task, others in details if stray[0] in others)
            raise UsageError(f"{parameter(stray[0])} goes with {parameter(task)}, which is not given")
        for other in _NEEDED[chosen[0]]:
            if other not in typed:
                raise UsageError(f"{parameter(chosen[0])} needs {parameter(other)}, which is not given")
        if self.noise is not None and not bounded and not 0 <= self.noise < math.inf:
            raise UsageError(f"{parameter('noise')} must be at least 0, in the data's own values, not {self.noise:g}")
        if self.noise is not None and bounded and not 0 <= self.noise <= 10:
            raise UsageError(f"{parameter('noise')} must be between 0 and 10, not {self.noise:g}")
        if self.rule is not None and self.rule not in RULES:
            raise UsageError(f"{parameter('rule')} must be one of {', '.join(RULES)}, not {self.rule[:40]!a}")
        corner(self.at)

    @property
    def fits(self) -> bool | None:
        """Whether pictures of other sizes are resized and cropped; None if the task doesn't offer that."""
        return bool(self.fit) if self.inpaint or self.super_resolve or self.colorize else None

    @property
    def inputs(self) -> Path | None:
        """The file or folder of the task's pictures."""
        given = (self.inpaint, self.outpaint, self.super_resolve, self.colorize, self.deblur, self.measure, self.input)
        return next((path for path in given if path is not None), None)


def mask_of(typed: Path | None) -> Path | tuple[int, int, int, int] | None:
    """The mask as typed: a rectangle if it is four whole numbers with commas and no file has this name."""
    if typed is None or not re.fullmatch(r"[0-9]{1,6}(,[0-9]{1,6}){3}", str(typed)) or typed.exists():
        return typed
    left, top, right, bottom = map(int, str(typed).split(","))
    return left, top, right, bottom


def corner(text: str | None) -> tuple[int, int] | None:
    """X and Y of an `at`; None for None. Raises UsageError."""
    if text is None:
        return None
    words = text.split(",")
    if len(words) != 2 or not all(word.strip().isdecimal() and len(word) < 7 for word in words):
        raise UsageError(f"{parameter('at')} {text[:80]!a}: expected two whole numbers with a comma, such as 2,3")
    return int(words[0]), int(words[1])
