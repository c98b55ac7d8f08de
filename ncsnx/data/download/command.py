"""The command line that downloads a data set, for messages."""

import shlex
from pathlib import Path

import attrs

from ncsnx.config.data_sets import Data, DataOnDisk
from ncsnx.config.discovery import discover, known_names
from ncsnx.config.experiment import Experiment
from ncsnx.paths import folder_of


def download_command(data: DataOnDisk, folder: Path) -> str:
    """`ncsnx data download EXPERIMENT …` for a data set, with the experiment here whose data is most like it.

    folder: the data folder. Fields in which that experiment's data differs are overridden. Without any experiment on
    this kind of data, EXPERIMENT is left as a placeholder.
    """
    experiments = [known.registered.experiment for known in known_names(discover()) if known.error is None]
    candidates = [experiment for experiment in experiments if type(experiment.data) is type(data)]
    nearest = min(candidates, key=lambda experiment: len(_differing(experiment, data)), default=None)
    words = ["EXPERIMENT"]
    if nearest is not None:
        words = [nearest.name, *(f"data.{name}={getattr(data, name)}" for name in _differing(nearest, data))]
    if data.root is not None:
        words.append(f"data.root={data.root}")
    elif folder != folder_of(None, "NCSNX_DATA", "data"):
        return f"ncsnx data download {shlex.join(words)} --data {shlex.quote(str(folder))}"
    return f"ncsnx data download {shlex.join(words)}"


def _differing(experiment: Experiment, data: DataOnDisk) -> list[str]:
    """Fields of `data` that decide which images it holds, and that the experiment's data has another value for."""
    shared = {field.name for field in attrs.fields(Data)} | {field.name for field in attrs.fields(DataOnDisk)}
    names = [field.name for field in attrs.fields(type(data)) if field.name not in shared]
    return [name for name in names if getattr(data, name) != getattr(experiment.data, name)]
