"""The training loop: denoising score matching with regular checkpoints.

Nothing in a step waits for the device. Losses stay there until they are logged, on CUDA one interval later; NaN or
infinity is found then, before anything is saved.
"""

import math
from collections.abc import Iterator

import torch

from ncsnx.config.experiment import Experiment
from ncsnx.data import Splits, TrainingBatches
from ncsnx.data.batches import Batch
from ncsnx.data.prefetch import prefetched
from ncsnx.errors import DivergedError, Hint, NcsnxError, Stopped
from ncsnx.runs.checkpoints.pruning import CheckpointPruner
from ncsnx.runs.folder import Run
from ncsnx.runs.metrics_log import MetricsLog
from ncsnx.runs.names import step_name
from ncsnx.runtime import Runtime
from ncsnx.sampling.score_model import weights_of
from ncsnx.stopping import StopRequest
from ncsnx.training.checkpoint_writer import CheckpointWriter, report_pruning
from ncsnx.training.compiling.compiled_gradient import require_equal_gradient
from ncsnx.training.held_out_batch import HeldOutBatch
from ncsnx.training.observer import CHECKPOINT, COMPILING, EVALUATING, SAMPLING, TRAINING, TrainingObserver
from ncsnx.training.optimizers import learning_rate
from ncsnx.training.recording import Recorder
from ncsnx.training.snapshots import sample_grid
from ncsnx.training.steps.pending_losses import PendingLosses
from ncsnx.training.steps.training_step import TrainingStep
from ncsnx.training.training_state import TrainingState, non_finite


def train(
    state: TrainingState, data: Splits, run: Run, runtime: Runtime, observer: TrainingObserver, stop: StopRequest
) -> None:
    """Trains from `state.step` to the experiment's last step and writes into `run`, whose lock the caller holds.

    Raises Stopped after a stop request, with a checkpoint of the current step. Raises NcsnxError if a loss or weight
    becomes NaN or infinite, which is never saved, and if writing fails.
    """
    with stop.at_once():
        training = _Training(state, data, run, runtime, observer, stop)
    with training.writer:
        training.run()


class _Training:
    """The parts of one training."""

    def __init__(
        self,
        state: TrainingState,
        data: Splits,
        run: Run,
        runtime: Runtime,
        observer: TrainingObserver,
        stop: StopRequest,
    ) -> None:
        experiment = state.experiment
        self.state, self.data, self.folder = state, data, run
        self.runtime, self.observer, self.stop = runtime, observer, stop
        self.experiment: Experiment = experiment
        self.device = runtime.device
        self.batches = TrainingBatches(data.train, experiment.batch_size, experiment.seed)
        self.step = TrainingStep(
            state, data.train.value_range, graphs=runtime.graphs, compiled=runtime.compile, report=observer.warning
        )
        self.held_out = HeldOutBatch(data.held_out, experiment, self.device) if len(data.held_out) else None
        self.recorder = Recorder(run, state.step)
        self.pruner = CheckpointPruner(run, experiment, lambda: stop.requested)
        self.writer = CheckpointWriter(run, self.pruner, observer)
        self.losses = PendingLosses(self.device)
        self.saved_step = state.step

    def run(self) -> None:
        try:
            self._announce_retention()
            if self.state.step < self.experiment.steps:
                self._check_compilation()  # first, so that a resumed run compiles the same code as an uninterrupted one
            self._evaluate_if_missing()
            self._sample_if_due()  # missing if the run was killed while sampling
            if self.state.step < self.experiment.steps:
                self.observer.phase(TRAINING)
            for batch in self._batches():
                loss = self.step(batch.images.pixels, batch.positions, lambda: self.stop.requested)
                if loss is None:
                    break
                self.losses.add(loss)
                self.observer.step(self.state.step, self.experiment.batch_size)
                self._report_if_due()
                self.writer.poll()
                if self._is_due(self.experiment.checkpoint_every):
                    self._checkpoint()
                    self._sample_if_due()
                    self.observer.phase(TRAINING)
            self._checkpoint()
            self.stop.check()
            self._sample_if_due()
        finally:
            self.recorder.close()

    def _check_compilation(self) -> None:
        """Compiles the network, if requested, and refuses a wrong gradient before anything is trained with it."""
        if not self.runtime.compile or self.stop.requested:
            return
        self.observer.phase(COMPILING)
        with self.stop.at_once():  # compilation takes a minute
            batch = self.batches.at(self.state.step)
            pixels, positions = (
                tensor.to(self.device).chunk(self.experiment.accumulation)[0]
                for tensor in (batch.images.pixels, batch.positions)
            )
            difference = require_equal_gradient(self.state, lambda: self.step.loss(pixels, positions))
        self.observer.note(f"compiled; its gradient differs from the eager one by {difference:.1g} of its norm")

    def _batches(self) -> Iterator[Batch]:
        """The remaining batches, until a stop. If one can't be read, a checkpoint is written first."""
        batches = prefetched(
            self.batches.between(self.state.step, self.experiment.steps, self.runtime.workers), self.device
        )
        try:
            while True:
                with self.stop.at_once():  # a slow disk must not delay a stop
                    batch = next(batches, None)
                if batch is None:
                    return
                yield batch
        except Stopped:
            return  # handled at the end of the loop
        except NcsnxError as error:
            self._checkpoint()
            self.writer.finish()
            again = Hint(f"fix the data, then repeat the command: it resumes from step {self.state.step:,}")
            raise NcsnxError(error.message, *error.hints, again) from error

    def _is_due(self, every: int) -> bool:
        return self.state.step % every == 0

    def _report_if_due(self) -> None:
        if self._is_due(self.experiment.log_every):
            self.losses.end_interval(self.state.step)
            self._report_losses(all=False)
        if self._is_due(self.experiment.eval_every) and not self.stop.requested:
            self._evaluate()
            self.observer.phase(TRAINING)

    def _evaluate(self) -> None:
        """Records the held-out loss of this step, with averaged weights if the experiment has EMA."""
        if self.held_out is not None:
            self._report_losses(all=True)  # records stay in the order of their steps
            self.observer.phase(EVALUATING)
            loss = self.held_out.loss(self.state.evaluation_network())
            weights, _ = weights_of(self.experiment)
            self.recorder.held_out(self.state.step, loss, weights)
            self.observer.held_out(self.state.step, loss.mean, weights)

    def _evaluate_if_missing(self) -> None:
        """Records the held-out loss of this step's checkpoint if a stop skipped it."""
        step = self.state.step
        if step > 0 and self._is_due(self.experiment.eval_every) and not self.stop.requested:
            records = MetricsLog(self.folder).read()
            if not any(record["step"] == step and "held_out" in record for record in records):
                self._evaluate()

    def _report_losses(self, *, all: bool) -> None:
        """Records the mean loss of each interval that has ended. all: also of one whose losses are on their way."""
        for last, losses in self.losses.read(all=all):
            for number, loss in enumerate(losses, start=last - len(losses) + 1):
                if not math.isfinite(loss):
                    raise non_finite("the loss", number, self.experiment)
            mean = sum(losses) / len(losses)
            lr = learning_rate(self.experiment.optimizer, last - 1, self.experiment.warmup_steps)
            self.recorder.training(last, mean, lr)
            memory = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None
            self.observer.logged(last, mean, device_memory_bytes=memory)

    def _checkpoint(self) -> None:
        """Begins to write a checkpoint of this step, unless it was already saved. Training pauses for a copy only."""
        if self.state.step == self.saved_step:
            return
        self.losses.end_interval(self.state.step)
        self._report_losses(all=True)
        self.recorder.flush()
        self.state.require_finite()
        self.observer.phase(CHECKPOINT)
        self.writer.begin(self.state)
        self.saved_step = self.state.step

    def _announce_retention(self) -> None:
        """Announces what retention will remove, then removes what is already due."""
        if self.experiment.retention.removes_anything:
            self.observer.phase("verifying the checkpoints that retention relies on")
        for line in self.pruner.announcement():
            self.observer.warning(line)
        report_pruning(self.pruner.apply(), self.observer)

    def _sample_if_due(self) -> None:
        """Draws the sample grid of this step's checkpoint, if it is due and doesn't exist.

        It is drawn while the checkpoint is written, and saved once the checkpoint is complete.
        """
        snapshots, step = self.experiment.snapshots, self.state.step
        path = self.folder.snapshots / f"{step_name(step)}.png"
        if snapshots is None or step == 0 or path.exists():
            return
        is_last = step == self.experiment.steps
        if not is_last and step % (snapshots.every * self.experiment.checkpoint_every):
            return
        self.observer.phase(SAMPLING)
        try:
            grid = sample_grid(
                self.state.evaluation_network(),
                self.experiment,
                self.data.train,
                self.runtime,
                check_stop=self._check,
                progress=self.observer.sampling,
            )
        except DivergedError as error:  # training continues, since later weights may not diverge
            self.observer.warning(f"no grid of samples for step {step:,}: {error}")
        else:
            self.writer.finish()
            self.recorder.snapshot(step, path, grid)

    def _check(self) -> None:
        """Raises Stopped after a stop request, and the error of a checkpoint that could not be written."""
        self.stop.check()
        self.writer.poll()
