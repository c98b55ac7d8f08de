"""Weights & Biases (https://docs.wandb.ai), online, or with WANDB_MODE=offline into files to send later."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from ncsnx.tracking.tracker import PROJECT, TrackedRun, Tracker, tracker

STEP = "step"
"""Series with the training step. wandb's own step must ascend, and a score may belong to an earlier step."""


@tracker("wandb", requires="wandb", install=".[wandb]")
class WandbTracker(Tracker):
    """A run of wandb. Console, code, git state and machine aren't sent: the run's segments have them.

    Offline, each process writes a folder of its own, since wandb doesn't resume there; all have the same id.
    """

    def __init__(self, run: TrackedRun) -> None:
        import wandb

        self._image = wandb.Image
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=run.record,
            name=run.name,
            config=dict(run.config),
            resume="allow",
            allow_val_change=True,
            settings=wandb.Settings(
                silent=True, console="off", save_code=False, disable_git=True, x_disable_stats=True
            ),
        )
        self._run.define_metric(STEP, hidden=True)
        self._run.define_metric("*", step_metric=STEP)
        to_sync = f"wandb sync {shlex.quote(str(Path(self._run.dir).parents[1]))}/*-{run.record}"
        self.hint = to_sync if self._run.offline else self._run.url or ""

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({**values, STEP: step})

    def image(self, step: int, name: str, file: Path) -> None:
        self._run.log({name: self._image(str(file)), STEP: step})

    def close(self) -> None:
        self._run.finish()
