"""Weights & Biases (https://docs.wandb.ai), online, or with WANDB_MODE=offline into files to send later."""

import os
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path

from ncsnx.tracking.tracker import PROJECT, TrackedRun, Tracker, tracker
from ncsnx.tracking.wandb_files import logged_steps

STEP = "step"
"""Series with the training step. wandb's own step must ascend, and a score may belong to an earlier step."""


@tracker("wandb", requires="wandb", install="ncsnx[wandb]", startup_s=1.5)
class WandbTracker(Tracker):
    """A run of wandb. Console, code, git state and machine aren't sent: the run's segments have them.

    Offline, each process writes a folder of its own, since wandb doesn't resume there; all have the same id.
    """

    def __init__(self, run: TrackedRun) -> None:
        import wandb

        self._image, self._record = wandb.Image, run.record
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=run.record,
            name=run.name,
            config=dict(run.config),
            resume="allow",
            allow_val_change=True,
            settings=wandb.Settings(console="off", save_code=False, disable_git=True, x_disable_stats=True),
        )
        self._run.define_metric(STEP, hidden=True)
        self._run.define_metric("*", step_metric=STEP)
        self._folder = Path(self._run.dir).parent
        to_sync = f"wandb sync {shlex.quote(str(self._folder.parent))}/*-{run.record}"
        self.hint = to_sync if self._run.offline else self._run.url or ""
        # after a kill, its files tell what it had written; otherwise the run's notes are exact
        earlier = [file for file in self._files() if file.parent != self._folder] if run.was_interrupted else []
        self._on_disk = logged_steps(earlier, STEP) if earlier else None

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({**values, STEP: step})

    def image(self, step: int, name: str, file: Path) -> None:
        self._run.log({name: self._image(str(file)), STEP: step})

    def steps(self, name: str) -> Collection[int] | None:
        return (
            None if self._on_disk is None else self._on_disk.get(name)
        )  # older files may have been synced and removed

    def close(self) -> None:
        self._run.finish()
        self._on_disk = None

    def _files(self) -> list[Path]:
        """wandb's files of this record, in the folder where it puts all of them."""
        return list(self._folder.parent.glob(f"*run-*-{self._record}/run-*.wandb"))
