"""The training loop: steps of any loss, with regular checkpoints.

Nothing in a step waits for the device. Losses stay there until they are logged, on CUDA one interval later; NaN or
infinity is found then, before anything is saved.
"""

import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NoReturn

import torch

from ncsnx.config.experiment import Experiment
from ncsnx.data import Splits, TrainingBatches
from ncsnx.data.batches import Batch, prefetched
from ncsnx.data.memory_cache import CachedImages
from ncsnx.errors import DivergedError, Hint, NcsnxError, Stopped
from ncsnx.ranks.rank_group import ALONE, RankGroup
from ncsnx.runs.folder import Run
from ncsnx.sampling.loading import weights_of
from ncsnx.stopping import StopRequest
from ncsnx.training.agreed_stop import AgreedStop, TimeIsUp
from ncsnx.training.loss_values import HeldOutBatch, PendingLosses
from ncsnx.training.observer import COMPILING, EVALUATING, SAMPLING, TRAINING, TrainingObserver
from ncsnx.training.optimizers import learning_rate
from ncsnx.training.run_files import RunFiles
from ncsnx.training.snapshots import sample_grid
from ncsnx.training.training_state import TrainingState, non_finite
from ncsnx.training.training_step import TrainingStep, require_equal_gradient
from ncsnx.work import UNSEEN

_DRIFT = 1e-4
"""Largest relative difference between the norms of the ranks' weights."""


def train_steps(
    state: TrainingState,
    data: Splits,
    run: Run,
    observer: TrainingObserver,
    stop: StopRequest,
    ranks: RankGroup = ALONE,
    end_s: float = math.inf,
) -> None:
    """Trains from `state.step` to the experiment's last step and writes into `run`, whose lock the caller holds.

    ranks: those that share the batches; rank 0 writes. end_s: time on the monotonic clock after which training ends
    with a checkpoint, but not before the first step. Raises Stopped after a stop request, with a checkpoint of the
    current step. Raises NcsnxError if a loss or weight becomes NaN or infinite, which is never saved, and if writing
    fails.
    """
    with AgreedStop(stop, ranks).interruptible():
        training = _Loop(state, data, run, observer, stop, ranks, end_s)
    try:
        with training.files, suppress(TimeIsUp):
            training.run()
    except Stopped:
        ranks.gather(lambda: None)  # a launcher ends all ranks soon after the first one, so rank 0 must have written
        raise
    ranks.gather(lambda: None)


class _Loop:
    """The parts of one training."""

    def __init__(
        self,
        state: TrainingState,
        data: Splits,
        run: Run,
        observer: TrainingObserver,
        stop: StopRequest,
        ranks: RankGroup,
        end_s: float,
    ) -> None:
        experiment, runtime = state.experiment, state.runtime
        self.state, self.data = state, data
        self.observer, self.ranks = observer, ranks
        self.experiment: Experiment = experiment
        self.device = runtime.device
        self.stop, self.end_s = AgreedStop(stop, ranks), end_s
        self.batches = TrainingBatches(data.train, experiment.batch_size, experiment.seed, ranks)
        self.step = TrainingStep(state, data.train.value_range, compiled=runtime.compile, ranks=ranks)
        self.held_out = (
            HeldOutBatch(data.held_out, experiment, state.space, self.device, ranks) if len(data.held_out) else None
        )
        self.files: Any = RunFiles(run, state, observer, lambda: stop.requested) if ranks.is_first else UNSEEN
        self.losses = PendingLosses(self.device, total=self.step.total_loss)
        self.saved_step = state.step

    def run(self) -> None:
        self.files.apply_retention()
        if not self.experiment.is_complete(self.state.step):
            self._check_compilation()  # first, so that a resumed run compiles the same code as an uninterrupted one
        self._evaluate_if_missing()
        self._sample_if_due()  # missing if the run was killed while sampling
        if not self.experiment.is_complete(self.state.step):
            self.observer.phase(TRAINING)
        for batch in self._batches():
            images = batch.images
            loss = self.step(images.pixels, batch.positions, images.labels, lambda: self.stop.requested)
            if loss is None:
                break
            self.losses.add(loss)
            self.observer.step(self.state.step, self.experiment.batch_size)
            self.stop.end_s = self.end_s  # a short time trains one step at least
            self._report_if_due()
            self.files.poll()
            if self._is_due(self.experiment.checkpoint_every):
                self._checkpoint()
                self._sample_if_due()
                self.observer.phase(TRAINING)
        self._checkpoint()
        self.stop.check()
        self._sample_if_due()

    def _check_compilation(self) -> None:
        """Compiles the network, if requested, and refuses a wrong gradient before anything is trained with it."""
        if not self.state.runtime.compile or self.stop.requested:
            return
        self.observer.phase(COMPILING)
        with self.stop.interruptible():  # compilation takes a minute
            batch = self.batches.at(self.state.step)
            pixels, positions, labels = (
                tensor.to(self.device).tensor_split(self.experiment.accumulation)[0]
                for tensor in (batch.images.pixels, batch.positions, batch.images.labels)
            )
            difference = require_equal_gradient(self.state, lambda: self.step.loss(pixels, positions, labels))
        self.observer.note(f"compiled; its gradient differs from the eager one by {difference:.1g} of its norm")

    def _batches(self) -> Iterator[Batch]:
        """The remaining batches, until a stop. If one can't be read, a checkpoint is written first."""
        # a process reads for itself, and what it cached would be lost
        workers = 0 if isinstance(self.batches.dataset, CachedImages) else self.state.runtime.workers
        batches = prefetched(self.batches.between(self.state.step, self.experiment.steps, workers), self.device)
        while True:
            batch, error = None, None
            try:
                with self.stop.interruptible():  # a slow disk must not delay a stop
                    batch = next(batches, None)
            except Stopped:
                return  # handled at the end of the loop
            except NcsnxError as caught:
                error = caught
            if self.stop.agree(failed=error is not None):
                self._end_without_data(error)
            if batch is None or self.stop.requested:
                return
            yield batch

    def _end_without_data(self, error: NcsnxError | None) -> NoReturn:
        """Writes a checkpoint, then raises the error of reading a batch, on whichever rank it was."""
        self._checkpoint()
        self.files.finish()
        again = Hint(f"fix the data, then repeat the command: it resumes from step {self.state.step:,}")

        def end() -> None:
            if error is not None:
                raise NcsnxError(error.message, *error.hints, again) from error

        self.ranks.gather(end)
        raise AssertionError("a rank failed, and raises its error")

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
            self.files.held_out(self.state.step, loss, weights)
            self.observer.held_out(self.state.step, loss.mean, weights)

    def _evaluate_if_missing(self) -> None:
        """Records the held-out loss of this step's checkpoint if a stop skipped it."""
        step = self.state.step
        is_due = step > 0 and self._is_due(self.experiment.eval_every) and not self.stop.requested
        if is_due and self.ranks.first(lambda: self.files.lacks_held_out(step)):
            self._evaluate()

    def _report_losses(self, *, all: bool) -> None:
        """Records the mean loss of each interval that has ended. all: also of one whose losses are on their way."""
        for last, losses in self.losses.read(all=all):
            for number, loss in enumerate(losses, start=last - len(losses) + 1):
                if not math.isfinite(loss):
                    raise non_finite("the loss", number, self.experiment)
            mean = sum(losses) / len(losses)
            lr = learning_rate(self.experiment, last - 1)
            self.files.training(last, mean, lr)
            memory = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None
            self.observer.logged(last, mean, device_memory_bytes=memory)

    def _checkpoint(self) -> None:
        """Begins to write a checkpoint of this step, unless it was already saved. Training pauses for a copy only."""
        if self.state.step == self.saved_step:
            return
        self.losses.end_interval(self.state.step)
        self._report_losses(all=True)
        self._require_equal_weights(self.state.finite_norm())
        self.files.checkpoint(self.state)
        self.saved_step = self.state.step

    def _require_equal_weights(self, norm: float) -> None:
        """Raises NcsnxError if the weights of the ranks differ by more than rounding. norm: of this rank's weights."""
        norms = self.ranks.gather(lambda: norm)
        if max(norms) - min(norms) > _DRIFT * max(norms):
            raise NcsnxError(
                f"the weights of the ranks differ at step {self.state.step:,}; they were not saved",
                Hint("use machines and networks whose results agree: nothing may change on one rank only"),
            )

    def _sample_if_due(self) -> None:
        """Draws the sample grid of this step's checkpoint, if it is due and doesn't exist.

        It is drawn while the checkpoint is written, and saved once the checkpoint is complete.
        """
        snapshots, step = self.experiment.snapshots, self.state.step
        if snapshots is None or step == 0:
            return
        is_last = step == self.experiment.steps
        if not is_last and step % (snapshots.every * self.experiment.checkpoint_every):
            return
        if not self.ranks.first(lambda: self.files.lacks_snapshot(step)):
            return
        self.observer.phase(SAMPLING)
        try:
            grid = sample_grid(
                self.state, self.data.train, check_stop=self._check, progress=self.observer.sampling, ranks=self.ranks
            )
        except DivergedError as error:  # training continues, since later weights may not diverge
            self.observer.warning(f"no grid of samples for step {step:,}: {error}")
        else:
            self.files.snapshot(step, grid)

    def _check(self) -> None:
        """Raises Stopped after a stop request, and the error of a checkpoint that could not be written."""
        self.stop.check_own()
        self.files.poll()
