"""Writes checkpoints in the background: training pauses for a copy of its state, and a thread writes the copy.

One checkpoint is written at a time. What a write tells (that it is complete, what was pruned after it, an error) is
told by the training's own thread, when it polls.
"""

from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import attrs

from ncsnx.errors import NcsnxError, Stopped
from ncsnx.runs import checkpoint
from ncsnx.runs.checkpoint import HostCopy, Tensors
from ncsnx.runs.folder import Run
from ncsnx.runs.retention import CheckpointPruner, PruningResult
from ncsnx.training.observer import CHECKPOINT, TrainingObserver
from ncsnx.training.training_state import TrainingState


@attrs.frozen
class _Written:
    """A complete checkpoint, and what retention then removed."""

    step: int
    path: Path
    pruned: PruningResult


class CheckpointWriter:
    """Writes the checkpoints of one training, within its block, under the lock that the caller holds.

    Leaving the block waits for the write, however it is left, and raises its error. Beside another error than a stop,
    the error of the write is a warning.
    """

    def __init__(self, run: Run, pruner: CheckpointPruner, observer: TrainingObserver) -> None:
        """pruner: applied after each write, in the writer's thread."""
        self._run, self._pruner, self._observer = run, pruner, observer
        self._copy = HostCopy()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._write: Future[_Written] | None = None

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

    @property
    def is_writing(self) -> bool:
        """Whether a write has begun and isn't complete. May be asked by any thread."""
        write = self._write
        return write is not None and not write.done()

    def finish(self) -> None:
        """Waits for the write, if there is one, and tells the observer. Raises NcsnxError if it failed."""
        if self._write is None:
            return
        wait([self._write])
        write, self._write = self._write, None
        written = write.result()
        self._observer.checkpoint(written.step, written.path)
        report_pruning(written.pruned, self._observer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
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

    def _written(self, step: int, parts: dict[str, Tensors], facts: dict[str, Any]) -> _Written:
        """Runs in the thread."""
        self._copy.wait()
        path = checkpoint.save(self._run, step, parts["model"], parts.get("ema"), parts["optimizer"], facts)
        return _Written(step, path, self._pruner.apply())


def report_pruning(result: PruningResult, observer: TrainingObserver) -> None:
    """Tells what retention removed, and what couldn't be removed: that doesn't end training."""
    if result.removed:
        observer.note(str(result))
    for problem in result.problems:
        observer.warning(problem)
