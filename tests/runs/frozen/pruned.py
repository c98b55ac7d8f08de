"""`python -m tests.runs.frozen.pruned`: freezes a run with all that retention leaves of checkpoints, killed or not.

It is to be called once a version of the manifest, by the program that writes that version: `pruned-vN` is committed,
and never made anew. `TRAINABLE` says what each holds. The program that made `pruned-v1` rewrote the manifest of a
checkpoint before and after it removed the optimizer's state: of step 1 that was done, of step 2 it was killed before
the file went, and of step 3 after, while it wrote the manifest. All later ones are whole or gone there.
"""

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

from ncsnx.runs.checkpoints.manifest import SCHEMA_VERSION
from ncsnx.runs.checkpoints.removal import remove_checkpoint, remove_optimizer_state
from ncsnx.runs.folder import Run
from ncsnx.runs.names import step_name
from tests.cli.command import REPOSITORY
from tests.runs.frozen.__main__ import FROZEN, forget_this_machine
from tests.training.tiny import CPU, command

STEPS = 5
TRAINING = (
    *("train", "digits", "model.width=2", "batch_size=16", "schedule.levels=4", "sampler.steps_per_level=1"),
    *("snapshots=none", "checkpoint_every=1", "ema=none", "optimizer=sgd", "optimizer.momentum=0.9"),
)
TRAINABLE = {1: False, 2: True, 3: False, 5: True}
"""Whether the checkpoint of a step holds the optimizer's state; of step 4, a killed removal left files."""


def main() -> int:
    place = FROZEN / f"pruned-v{SCHEMA_VERSION}"
    if place.exists():
        print(f"{place} is frozen already, and stays as it is", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary).resolve()
        shutil.copytree(REPOSITORY / "experiments", work / "experiments")
        training = (*TRAINING, f"steps={STEPS}", *CPU)
        result = command(*training, folder=work)
        if result.code != 0:
            raise SystemExit(result.err)
        run = Run(work / "runs/digits")
        for step in (1, 3):
            remove_optimizer_state(run.checkpoints / step_name(step))
        _kill_in_removal(run.checkpoints / step_name(4))
        shutil.copytree(run.path, place, ignore=shutil.ignore_patterns("tensorboard", ".lock", ".holder.json"))
        forget_this_machine(place, work, *training)
    return 0


def _kill_in_removal(folder: Path) -> None:
    """Removes a checkpoint in a process that is killed when some of its files have gone."""
    process = os.fork()
    if process == 0:
        unlink = os.unlink

        def killed(path: Path) -> None:
            if path.name == "state.json":
                os.kill(os.getpid(), signal.SIGKILL)
            unlink(path)

        os.unlink = killed  # type: ignore[assignment]
        remove_checkpoint(folder)
        os._exit(1)
    if not os.WIFSIGNALED(os.waitpid(process, 0)[1]):
        raise SystemExit(f"the removal of {folder} ended")


if __name__ == "__main__":
    sys.exit(main())
