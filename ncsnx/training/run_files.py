"""All that a training writes into its run. Only one rank does, and the others call nothing that needs the disk."""

import importlib.util
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor

from ncsnx.errors import NcsnxError, Stopped
from ncsnx.exports.exported import Weights
from ncsnx.images import save_png, side_by_side
from ncsnx.runs import checkpoint
from ncsnx.runs.checkpoint import HostCopy, Tensors
from ncsnx.runs.folder import Run
from ncsnx.runs.metrics_log import MetricsLog, series_of
from ncsnx.runs.names import step_name
from ncsnx.runs.retention import CheckpointPruner, steps_in_words
from ncsnx.storage.atomic import reporting
from ncsnx.training.loss_values import HeldOutLoss
from ncsnx.training.observer import CHECKPOINT, TrainingObserver
from ncsnx.training.training_state import TrainingState

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class RunFiles:
    """All that a training writes into its run, whose lock the caller holds.

    First it drops records of later steps, which a killed process left. Leaving its block waits for the checkpoint that
    is being written.
    """

    def __init__(
        self, run: Run, state: TrainingState, observer: TrainingObserver, is_stopping: Callable[[], bool]
    ) -> None:
        """is_stopping: whether a stop was requested, so that pruning is put off."""
        self._run, self._observer = run, observer
        self._metrics, self._start_step = MetricsLog(run), state.step
        self._metrics.truncate(state.step)
        self._events_file: SummaryWriter | None = None
        self._pruner = CheckpointPruner(run, state.experiment, is_stopping)
        self._writer = CheckpointWriter(run, self._pruner, observer)

    def apply_retention(self) -> None:
        """Removes what retention no longer keeps, since its rules may be new. Raises NcsnxError."""
        report_pruning(self._pruner.apply(), self._observer)

    def training(self, step: int, loss: float, lr: float) -> None:
        """Records the mean loss since the last record, of the raw weights before each update. Raises NcsnxError."""
        self._record({"step": step, "loss": loss, "weights": "raw", "lr": lr})

    def held_out(self, step: int, loss: HeldOutLoss, weights: Weights) -> None:
        """Records the held-out loss of `weights`, overall and per level. Raises NcsnxError."""
        levels = {str(level): value for level, value in loss.levels.items()}
        self._record({"step": step, "held_out": loss.mean, "weights": weights, "held_out_levels": levels})

    def lacks_held_out(self, step: int) -> bool:
        """Whether no held-out loss of this step is recorded."""
        return not any(record["step"] == step and "held_out" in record for record in self._metrics.read())

    def snapshot(self, step: int, grid: Tensor) -> None:
        """Saves a grid of samples, (C, H, W) uint8, once the checkpoint of its step is complete. Raises NcsnxError."""
        self._writer.finish()
        path = self._snapshot_path(step)
        with reporting(path.parent):
            path.parent.mkdir(exist_ok=True)
        save_png(path, grid)
        with reporting(self._run.tensorboard):
            if (events := self._events()) is not None:
                events.add_image("samples", side_by_side(grid), step)
                events.flush()

    def lacks_snapshot(self, step: int) -> bool:
        """Whether there is no grid of samples of this step."""
        return not self._snapshot_path(step).exists()

    def checkpoint(self, state: TrainingState) -> None:
        """Copies the state and begins to write its checkpoint. Raises NcsnxError if an earlier one failed."""
        with reporting(self._run.tensorboard):
            if self._events_file is not None:
                self._events_file.flush()  # earlier steps are never recorded again
        self._observer.phase(CHECKPOINT)
        self._writer.begin(state)

    def poll(self) -> None:
        """Raises NcsnxError if the checkpoint that was being written failed. Costs nothing otherwise."""
        self._writer.poll()

    def finish(self) -> None:
        """Waits for the checkpoint that is being written. Raises NcsnxError if it failed."""
        self._writer.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        try:
            with reporting(self._run.tensorboard):
                if self._events_file is not None:
                    self._events_file.close()
        finally:
            self._writer.close(error)

    def _snapshot_path(self, step: int) -> Path:
        return self._run.snapshots / f"{step_name(step)}.png"

    def _record(self, record: dict[str, Any]) -> None:
        self._metrics.append(record)
        with reporting(self._run.tensorboard):
            if (events := self._events()) is not None:
                for name, value in series_of(record).items():
                    events.add_scalar(name, value, record["step"])

    def _events(self) -> "SummaryWriter | None":
        """TensorBoard's writer, made for the first event, so that a complete run gets no further file."""
        if self._events_file is None and has_tensorboard():
            from torch.utils.tensorboard import SummaryWriter

            # TensorBoard hides events of earlier files from this step on
            self._events_file = SummaryWriter(str(self._run.tensorboard), purge_step=self._start_step + 1)
        return self._events_file


Pruned = tuple[Sequence[int], Sequence[str]]
"""The result of `CheckpointPruner.apply`."""


class CheckpointWriter:
    """Writes the checkpoints of one training under the lock that the caller holds."""

    def __init__(self, run: Run, pruner: CheckpointPruner, observer: TrainingObserver) -> None:
        """pruner: applied after each write, in the writer's thread."""
        self._run, self._pruner, self._observer = run, pruner, observer
        self._copy = HostCopy()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._write: Future[tuple[int, Path, Pruned]] | None = None

    def begin(self, state: TrainingState) -> None:
        """Copies the state and begins to write it; the state may then change. Waits for an earlier write first.

        Raises NcsnxError if that one failed.
        """
        self.finish()
        copied = self._copy.take(state.parts())
        self._write = self._thread.submit(self._written, state.step, copied, state.facts())

    def poll(self) -> None:
        """Tells the observer of a write that is complete. Raises NcsnxError if it failed. Costs nothing otherwise."""
        if self._write is not None and self._write.done():
            self.finish()

    def finish(self) -> None:
        """Waits for the write, if there is one, and tells the observer. Raises NcsnxError if it failed."""
        if self._write is None:
            return
        wait([self._write])
        write, self._write = self._write, None
        step, path, pruned = write.result()
        self._observer.checkpoint(step, path)
        report_pruning(pruned, self._observer)

    def close(self, error: BaseException | None) -> None:
        """Waits for the write and raises its error, which beside another `error` than a stop is a warning."""
        if error is not None and self._write is not None and not self._write.done():
            self._observer.phase(CHECKPOINT)
        self._wait_despite_interrupts()
        try:
            self.finish()
        except NcsnxError as failure:
            if error is None or isinstance(error, Stopped):
                raise
            self._observer.warning(str(failure))

    def _wait_despite_interrupts(self) -> None:
        """Waits for the write, even if interrupted, since it needs the run's lock.

        After a second Ctrl-C, `StopRequest` ends the process in the middle of it.
        """
        interrupt: KeyboardInterrupt | None = None
        while self._write is not None and not self._write.done():
            try:
                wait([self._write])
            except KeyboardInterrupt as error:
                interrupt = error
        self._thread.shutdown(wait=False)
        if interrupt is not None:
            raise interrupt

    def _written(self, step: int, parts: dict[str, Tensors], facts: dict[str, Any]) -> tuple[int, Path, Pruned]:
        """Runs in the thread."""
        self._copy.wait()
        path = checkpoint.save(self._run, step, parts["model"], parts.get("ema"), parts["optimizer"], facts)
        return step, path, self._pruner.apply()


def report_pruning(pruned: Pruned, observer: TrainingObserver) -> None:
    """Tells what retention removed, and what couldn't be removed: that doesn't end training."""
    removed, problems = pruned
    if removed:
        observer.note(f"retention removed {steps_in_words(removed)}")
    for problem in problems:
        observer.warning(problem)


TENSORBOARD_HINT = "no TensorBoard events: for them, in a clone of ncsnx, pip install '.[tensorboard]'"


def has_tensorboard() -> bool:
    """Whether TensorBoard is installed."""
    return importlib.util.find_spec("tensorboard") is not None
