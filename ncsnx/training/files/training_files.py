"""All that a training writes into its run. Only one rank does, and the others call nothing that needs the disk."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from torch import Tensor

from ncsnx.runs.exported import Weights
from ncsnx.runs.folder import Run
from ncsnx.runs.metrics_log import MetricsLog
from ncsnx.runs.names import step_name
from ncsnx.runs.retention import CheckpointPruner
from ncsnx.training.files.checkpoint_writer import CheckpointWriter, report_pruning
from ncsnx.training.files.recording import Recorder
from ncsnx.training.held_out_batch import HeldOutLoss
from ncsnx.training.observer import CHECKPOINT, TrainingObserver
from ncsnx.training.training_state import TrainingState


class TrainingFiles(Protocol):
    """Receives what a training writes. Leaving its block waits for the checkpoint that is being written."""

    def announce_retention(self) -> None:
        """Announces what retention will remove, then removes what is already due. Raises NcsnxError."""

    def training(self, step: int, loss: float, lr: float) -> None:
        """Records the mean loss since the last record, of the raw weights. Raises NcsnxError."""

    def held_out(self, step: int, loss: HeldOutLoss, weights: Weights) -> None:
        """Records the held-out loss of `weights`. Raises NcsnxError."""

    def lacks_held_out(self, step: int) -> bool:
        """Whether no held-out loss of this step is recorded."""

    def snapshot(self, step: int, grid: Tensor) -> None:
        """Saves a grid of samples, (C, H, W) uint8, once the checkpoint of its step is complete. Raises NcsnxError."""

    def lacks_snapshot(self, step: int) -> bool:
        """Whether there is no grid of samples of this step."""

    def checkpoint(self, state: TrainingState) -> None:
        """Copies the state and begins to write its checkpoint. Raises NcsnxError if an earlier one failed."""

    def poll(self) -> None:
        """Raises NcsnxError if the checkpoint that was being written failed. Costs nothing otherwise."""

    def is_writing(self) -> bool:
        """Whether a checkpoint is being written. May be called by any thread."""

    def finish(self) -> None:
        """Waits for the checkpoint that is being written. Raises NcsnxError if it failed."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class RunFiles(TrainingFiles):
    """The files of a run, whose lock the caller holds."""

    def __init__(
        self, run: Run, state: TrainingState, observer: TrainingObserver, is_stopping: Callable[[], bool]
    ) -> None:
        """is_stopping: whether a stop was requested, so that pruning is put off."""
        self._run, self._observer = run, observer
        self._recorder = Recorder(run, state.step)
        self._pruner = CheckpointPruner(run, state.experiment, is_stopping)
        self._writer = CheckpointWriter(run, self._pruner, observer)

    def announce_retention(self) -> None:
        for line in self._pruner.announcement():
            self._observer.warning(line)
        report_pruning(self._pruner.apply(), self._observer)

    def training(self, step: int, loss: float, lr: float) -> None:
        self._recorder.training(step, loss, lr)

    def held_out(self, step: int, loss: HeldOutLoss, weights: Weights) -> None:
        self._recorder.held_out(step, loss, weights)

    def lacks_held_out(self, step: int) -> bool:
        records = MetricsLog(self._run).read()
        return not any(record["step"] == step and "held_out" in record for record in records)

    def snapshot(self, step: int, grid: Tensor) -> None:
        self._writer.finish()
        self._recorder.snapshot(step, self._snapshot_path(step), grid)

    def lacks_snapshot(self, step: int) -> bool:
        return not self._snapshot_path(step).exists()

    def checkpoint(self, state: TrainingState) -> None:
        self._recorder.flush()
        self._observer.phase(CHECKPOINT)
        self._writer.begin(state)

    def poll(self) -> None:
        self._writer.poll()

    def is_writing(self) -> bool:
        return self._writer.is_writing

    def finish(self) -> None:
        self._writer.finish()

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._recorder.close()
        finally:
            self._writer.__exit__(kind, error, traceback)

    def _snapshot_path(self, step: int) -> Path:
        return self._run.snapshots / f"{step_name(step)}.png"


class NoFiles(TrainingFiles):
    """The files of ranks other than 0, which write nothing."""

    def announce_retention(self) -> None: ...
    def training(self, step: int, loss: float, lr: float) -> None: ...
    def held_out(self, step: int, loss: HeldOutLoss, weights: Weights) -> None: ...
    def lacks_held_out(self, step: int) -> bool:
        return False

    def snapshot(self, step: int, grid: Tensor) -> None: ...
    def lacks_snapshot(self, step: int) -> bool:
        return False

    def checkpoint(self, state: TrainingState) -> None: ...
    def poll(self) -> None: ...
    def is_writing(self) -> bool:
        return False

    def finish(self) -> None: ...
    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
