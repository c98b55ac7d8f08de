"""A training of the tiny experiment in the test's own thread, and an observer of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ncsnx.config.discovery import resolve
from ncsnx.data import Splits, open_data
from ncsnx.runs.folder import Run
from ncsnx.runs.names import step_name
from ncsnx.runtime import Runtime
from ncsnx.stopping import StopRequest
from ncsnx.training.loop import train_steps
from tests.spaces import space_of, state_of
from tests.training.tiny import overrides


class Events:
    """An observer that keeps what it is told, in order, and reacts to it."""

    def __init__(self, react: Callable[[str, Any], object] = lambda name, value: None) -> None:
        self.seen: list[tuple[str, Any]] = []
        self._react = react

    def __getattr__(self, name: str) -> Callable[..., None]:
        def note(value: Any, *more: Any, **named: Any) -> None:
            value = (value, more[0]) if name == "sampling" else value  # done, total
            self.seen.append((name, value))
            self._react(name, value)

        return note


class Training:
    """A training of the tiny experiment in `folder`."""

    def __init__(self, folder: Path, *changes: str, name: str = "run", workers: int = 0) -> None:
        self.config = resolve("digits", overrides(*changes)).experiment
        self.runtime = Runtime(device=torch.device("cpu"), threads=1, workers=workers)
        self.data: Splits = open_data(self.config.data, folder)
        self.run = Run.create(folder, name, self.config, {}, None, self.data.fingerprint, space_of(self.config.data))
        self.state = state_of(self.config, self.runtime)

    def resume(self) -> None:
        """Loads the last checkpoint, as another process would."""
        self.state = state_of(self.config, self.runtime)
        self.state.load(self.run.checkpoints / step_name(self.run.checkpoint()))

    def train(self, observer: Any, stop: StopRequest | None = None) -> None:
        train_steps(self.state, self.data, self.run, observer, stop or StopRequest())
