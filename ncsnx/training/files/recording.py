"""Records numbers and pictures of training in metrics.jsonl and, if it is installed, for TensorBoard."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ncsnx.images import save_png, side_by_side
from ncsnx.runs.exported import Weights
from ncsnx.runs.folder import Run
from ncsnx.runs.metrics_log import MetricsLog, series_of
from ncsnx.storage.atomic import reporting
from ncsnx.storage.reading import refuse_links
from ncsnx.training.held_out_batch import HeldOutLoss

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

TENSORBOARD_HINT = "no TensorBoard events: for them, pip install 'ncsnx[tensorboard]'"


def has_tensorboard() -> bool:
    """Whether TensorBoard is installed."""
    return importlib.util.find_spec("tensorboard") is not None


class Recorder:
    """Records the metrics of a training. First it drops records after `start_step`, which a killed process left."""

    def __init__(self, run: Run, start_step: int) -> None:
        self._run = run
        self._metrics = MetricsLog(run)
        self._metrics.truncate(start_step)
        self._start_step = start_step
        self._writer: SummaryWriter | None = None

    def training(self, step: int, loss: float, lr: float) -> None:
        """Records the mean loss of the steps since the last record, each with the raw weights before its update."""
        self._record({"step": step, "loss": loss, "weights": "raw", "lr": lr})

    def held_out(self, step: int, loss: HeldOutLoss, weights: Weights) -> None:
        """Records the held-out loss of `weights`, overall and per level."""
        levels = {str(level): value for level, value in loss.levels.items()}
        self._record({"step": step, "held_out": loss.mean, "weights": weights, "held_out_levels": levels})

    def snapshot(self, step: int, path: Path, grid: Tensor) -> None:
        """Saves a grid of samples, (C, H, W) uint8."""
        refuse_links(path.parent)
        with reporting(path.parent):
            path.parent.mkdir(exist_ok=True)
        save_png(path, grid)
        if (events := self._events()) is not None:
            events.add_image("samples", side_by_side(grid), step)
        self.flush()

    def flush(self) -> None:
        """Writes everything to disk; called before a checkpoint, since earlier steps are never recorded again."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Writes everything to disk at the end of training."""
        if self._writer is not None:
            self._writer.close()

    def _record(self, record: dict[str, Any]) -> None:
        self._metrics.append(record)
        if (events := self._events()) is not None:
            for name, value in series_of(record).items():
                events.add_scalar(name, value, record["step"])

    def _events(self) -> "SummaryWriter | None":
        """TensorBoard's writer, made for the first event, so that a complete run gets no further file."""
        if self._writer is None and has_tensorboard():
            from torch.utils.tensorboard import SummaryWriter

            # TensorBoard hides events of earlier files from this step on
            self._writer = SummaryWriter(str(self._run.tensorboard), purge_step=self._start_step + 1)
        return self._writer
