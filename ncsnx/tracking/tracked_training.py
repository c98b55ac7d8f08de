"""Keeps trackers up while a run trains: in processes of their own, never in its way, and never fatally."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ncsnx.errors import NcsnxError, Stopped
from ncsnx.runs.folder import Run
from ncsnx.tracking.tracker_child import TrackerChild, wait_for_children
from ncsnx.training.observer import ForwardingObserver, TrainingObserver

if TYPE_CHECKING:
    from ncsnx.runs.exported import Weights

REST_LIMIT_S = 30
"""Time in seconds that trackers have for the rest after training."""
_STOP_LIMIT_S = 5
"""The same after a stop, when the process must end soon."""
_SHARE = 0.01
"""Largest share of one processor's time that all trackers take, while none is idle."""
_PATIENCE_S = 60.0
"""Time in seconds that a tracker's process waits for that of a killed training, which has REST_LIMIT_S."""


@contextmanager
def tracked(
    run: Run, observer: TrainingObserver, tags: Sequence[str], is_stopping: Callable[[], bool]
) -> Iterator[TrainingObserver]:
    """The observer for a training that is sent to these trackers, until the end of the block.

    A tracker that fails, or isn't done in time, is a warning of the observer, once. is_stopping: whether a stop was
    requested.
    """
    tracking = _TrackingObserver(run, observer, tags)
    try:
        yield tracking
    except BaseException as error:
        tracking.finish(_STOP_LIMIT_S if isinstance(error, Stopped) else REST_LIMIT_S, lambda: False)
        raise
    tracking.finish(REST_LIMIT_S, is_stopping)


def command_for_the_rest(run: Run, tag: str) -> str:
    """The command that sends a tracker what it lacks."""
    return f"ncsnx track {run.typed} --to {tag}"


class _TrackingObserver(ForwardingObserver):
    """Passes all events on, and wakes the trackers' processes after those that write something."""

    def __init__(self, run: Run, observer: TrainingObserver, tags: Sequence[str]) -> None:
        super().__init__(observer)
        self._run = run
        self.step = observer.step  # called at every step, so without a detour
        self._children: list[TrackerChild] = []
        for tag in tags:
            try:
                child = TrackerChild(run, tag, limit_s=REST_LIMIT_S, patience_s=_PATIENCE_S, share=_SHARE / len(tags))
                self._children.append(child)
            except NcsnxError as error:
                self._warn(tag, str(error))

    def logged(self, step: int, loss: float, device_memory_bytes: int | None = None) -> None:
        self._observer.logged(step, loss, device_memory_bytes=device_memory_bytes)
        self._wake()

    def held_out(self, step: int, loss: float, weights: "Weights") -> None:
        self._observer.held_out(step, loss, weights)
        self._wake()

    def checkpoint(self, step: int, path: Path) -> None:
        self._observer.checkpoint(step, path)
        self._wake()

    def finish(self, limit_s: float, is_stopping: Callable[[], bool]) -> None:
        """Waits for the rest, for at most `limit_s` seconds, and ends the processes."""
        for child in self._children:
            child.end()
        if self._children:
            self._observer.phase(f"sending the rest to {', '.join(child.tag for child in self._children)}")
        begun_s = time.monotonic()
        wait_for_children(self._children, limit_s, is_stopping)
        waited_s = time.monotonic() - begun_s
        for child in self._children:
            if child.has_ended:
                self._conclude(child)
            else:
                child.kill()
                self._warn(child.tag, f"it was not done {waited_s:.0f} s after training")
        self._children = []

    def _wake(self) -> None:
        for child in [*self._children]:
            child.wake()
            if child.has_ended:
                self._children.remove(child)
                self._conclude(child)

    def _conclude(self, child: TrackerChild) -> None:
        why, hint = child.outcome()
        if why is not None:
            self._warn(child.tag, why)
        elif hint:
            self._observer.note(f"{child.tag}: {hint}")

    def _warn(self, tag: str, why: str) -> None:
        rest = command_for_the_rest(self._run, tag)
        self._observer.warning(f"{tag} does not have everything: {why}; the run does, and this sends the rest: {rest}")
