"""Names of runs and steps: how they are stored, and how they may be typed."""

import re
import shlex
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from ncsnx.config.checks import NAME
from ncsnx.errors import Hint, UsageError, shortened
from ncsnx.paths import folder_of
from ncsnx.quantities import counted, listed, parsed_integer
from ncsnx.spelling import A_NAME, argument

RUNS_VARIABLE = "NCSNX_RUNS"
SWEEP_SUFFIX = ".sweep"
"""Ending of a parameter sweep's folder, which has the table and plot of its runs: `runs/NAME.sweep`."""
_STEP_FOLDER = re.compile(r"step-([0-9]{8,})")
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}


def names_a_file_everywhere(name: str) -> bool:
    """Whether the name is valid on every system. Windows drops trailing dots and reserves names such as `con`."""
    reserved = name.split(".")[0].lower() in _RESERVED
    return NAME.fullmatch(name) is not None and not name.endswith(".") and not reserved


def check_file_name(name: str, of: str, then: Hint) -> str:
    """Returns `name` if it is a valid name for a file or folder on every system, else raises UsageError.

    of: what is named ('an experiment'). then: what to do about an invalid name.
    """
    if not names_a_file_everywhere(name):
        raise UsageError(
            f"{_typed(name)} cannot name {of}: expected 1 to 100 of A-Z a-z 0-9 . _ -, starting with a letter or "
            "digit, without '..', a trailing dot or a Windows device name (con, nul, com1)",
            then,
        )
    return name


def check_run_name(name: str) -> str:
    """Returns `name` if it is a valid name for a run, else raises UsageError."""
    return check_file_name(name, "a run", Hint("give another name", adds=argument("name", A_NAME)))


def check_sweep_name(name: str, longest: int) -> str:
    """Returns `name` if it can name a parameter sweep, else raises UsageError. longest: in characters."""
    hint = Hint("give another name", adds=argument("name", A_NAME))
    if len(name) > longest:
        raise UsageError(
            f"{_typed(name)} is too long for a sweep: expected at most {counted(longest, 'character')}", hint
        )
    return check_file_name(name, "a sweep", hint)


def is_sweep_folder(path: Path) -> bool:
    """Whether this is the folder of a parameter sweep, not of a run."""
    return path.name.endswith(SWEEP_SUFFIX) and path.is_dir() and not (path / "config.json").exists()


def runs_folder(given: Path | str | None = None) -> Path:
    """The folder of runs: `given`, else the environment variable NCSNX_RUNS, else ./runs.

    It need not exist. Raises UsageError if it isn't a folder.
    """
    return folder_of(given, RUNS_VARIABLE, "runs")


def as_typed(path: Path) -> str:
    """A path for a command line: quoted, with a slash so that it can't be mistaken for a run's name."""
    text = str(path)
    return shlex.quote(text if "/" in text else f"./{text}")


def near_matches(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown run: near matches, else the known names."""
    names = sorted(known)
    if near := get_close_matches(name, names, n=3, cutoff=0.5):
        return f"did you mean {' or '.join(near)}?"
    return f"known: {listed(names, most=8)}"


def step_name(step: int) -> str:
    """Folder name of a step, at least eight digits: `step-00150000`."""
    return f"step-{step:08d}"


def step_of(folder_name: str) -> int | None:
    """The step whose `step_name` is `folder_name`, or None."""
    match = _STEP_FOLDER.fullmatch(folder_name)
    if match is None or step_name(step := int(match[1])) != folder_name:
        return None
    return step


def part_file(part: str) -> str:
    """File name of a checkpoint's `part`: 'model', 'ema' or 'optimizer'."""
    return f"{part}.safetensors"


def parse_step(text: str) -> int | Literal["latest", "best"]:
    """Parses a typed step: `150000`, `150_000`, `150k`, `1.5M`, `latest` or `best`. Raises UsageError."""
    if text == "latest":
        return "latest"
    if text == "best":
        return "best"
    if (step := parsed_integer(text)) is not None and step >= 0:
        return step
    raise UsageError(f"{_typed(text)} is not a step: expected a whole number such as 150000 or 150k, latest or best")


def _typed(text: str) -> str:
    # escaped, since the refused names include control characters and look-alikes
    return shortened(ascii(text))
