"""trackio (https://github.com/gradio-app/trackio): a local database, or a space or server of one's own."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from ncsnx.tracking.tracker import PROJECT, TrackedRun, Tracker, tracker


@tracker("trackio", requires="trackio", install=".[trackio]")
class TrackioTracker(Tracker):
    """A run of trackio, which resumes by its name; so that names don't clash, it ends with digits of the record."""

    def __init__(self, run: TrackedRun) -> None:
        import trackio

        self._image = trackio.Image
        self._project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        self._name = f"{run.name}-{run.record[:6]}"
        self.hint = f"trackio show --project {shlex.quote(self._project)}"
        self._run = trackio.init(
            project=self._project,
            name=self._name,
            config={name.lstrip("_"): value for name, value in run.config.items()},
            resume="allow",
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
        )

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def image(self, step: int, name: str, file: Path) -> None:
        self._run.log({name: self._image(str(file))}, step=step)

    def close(self) -> None:
        self._run.finish()
