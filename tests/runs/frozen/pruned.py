"""`python -m tests.runs.frozen.pruned`: freezes a run with all states that retention leaves, killed or not.

Run it once per version of the manifest, with the program that writes that version. `pruned-vN` is committed and never
regenerated. `TRAINABLE` says which checkpoints hold the optimizer's state. The program that made `pruned-v1` rewrote
a manifest before and after it removed the optimizer's state. For step 1 it finished; for step 2 it was killed before
the file was removed, for step 3 after that, while it wrote the manifest. In later versions the state is removed
atomically.
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
"""Step → whether its checkpoint holds the optimizer's state. Of step 4, a killed removal left files."""


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
    """Removes a checkpoint in a process that is killed after some of its files were removed."""
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
