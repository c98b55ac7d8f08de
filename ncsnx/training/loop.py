"""The training loop: denoising score matching from one step to the last, a checkpoint now and then.

Nothing in a step waits for the device: losses stay there until they are logged, and a loss that isn't finite is found
then, before anything of it could be saved.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ncsnx.config.experiment import Experiment
from ncsnx.data import Preprocessing, Splits, TrainingBatches
from ncsnx.data.batches import Batch
from ncsnx.errors import DivergedError, NcsnxError, Stopped
from ncsnx.randomness import Purpose, Stream
from ncsnx.runs.checkpoints.pruning import CheckpointPruner
from ncsnx.runs.folder import Run
from ncsnx.runs.metrics_log import MetricsLog
from ncsnx.runs.names import step_name
from ncsnx.runtime import Runtime
from ncsnx.sampling.score_model import weights_of
from ncsnx.stopping import StopRequest
from ncsnx.training.held_out_batch import HeldOutBatch
from ncsnx.training.observer import CHECKPOINT, EVALUATING, SAMPLING, TRAINING, TrainingObserver
from ncsnx.training.optimizers import learning_rate
from ncsnx.training.recording import Recorder
from ncsnx.training.score_matching import score_matching_loss
from ncsnx.training.snapshots import sample_grid
from ncsnx.training.training_state import TrainingState, non_finite


def train(
    state: TrainingState, data: Splits, run: Run, runtime: Runtime, observer: TrainingObserver, stop: StopRequest
) -> None:
    """Trains from `state.step` to the experiment's last step, and writes into `run`, whose lock the caller holds.

    Raises Stopped after a stop request, with a checkpoint of the step it came in; NcsnxError for a loss or a weight
    that isn't finite, which is never saved, and where the system refuses a write.
    """
    with stop.at_once():
        training = _Training(state, data, run, runtime, observer, stop)
    training.run()


class _Training:
    """The parts that the loop holds together."""

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
        self.preprocessing = Preprocessing(experiment.data, data.train.value_range, experiment.seed)
        self.levels = Stream(experiment.seed, Purpose.NOISE_LEVEL)
        self.noise = Stream(experiment.seed, Purpose.TRAINING_NOISE)
        self.held_out = HeldOutBatch(data.held_out, experiment, self.device) if len(data.held_out) else None
        self.recorder = Recorder(run, state.step)
        self.pruner = CheckpointPruner(run, experiment, lambda: stop.requested)
        self.losses: list[Tensor] = []  # of the steps since the last record, on the device
        self.saved_step = state.step

    def run(self) -> None:
        try:
            self._announce_retention()
            self._evaluate_if_owed()
            self._sample_if_due()  # a run that was killed while it sampled still owes this grid
            if self.state.step < self.experiment.steps:
                self.observer.phase(TRAINING)
            for batch in self._batches():
                loss = self._update(batch)
                if loss is None:
                    break
                self.losses.append(loss)
                self.observer.step(self.state.step, self.experiment.batch_size)
                self._report_if_due()
                if self._is_due(self.experiment.checkpoint_every):
                    self._checkpoint()
                    self._sample_if_due()
                    self.observer.phase(TRAINING)
            self._checkpoint()
            self.stop.check()
            self._sample_if_due()
        finally:
            self.recorder.close()

    def _batches(self) -> Iterator[Batch]:
        """The batches that are left, until a stop. If one can't be had, weights and step are sound, and are kept."""
        batches = self.batches.between(self.state.step, self.experiment.steps, self.runtime.workers)
        try:
            while True:
                with self.stop.at_once():  # a slow disk delays no end
                    batch = next(batches, None)
                if batch is None:
                    return
                yield batch
        except Stopped:
            return  # the loop's end looks after it
        except NcsnxError as error:
            self._checkpoint()
            raise NcsnxError(
                f"{error}; fix the data, then repeat the command: it resumes from step {self.state.step:,}"
            ) from error

    def _update(self, batch: Batch) -> Tensor | None:
        """One optimizer step on one batch; gives the mean loss, on the device.

        None where a stop came before its last pass: then nothing has changed.
        """
        experiment, state = self.experiment, self.state
        lr = learning_rate(experiment.optimizer, state.step, experiment.warmup_steps)
        for group in state.optimizer.param_groups:
            group["lr"] = lr
        total = torch.zeros((), device=self.device)
        pixels = batch.images.pixels.to(self.device, non_blocking=True)
        positions = batch.positions.to(self.device, non_blocking=True)
        buffers = [buffer.clone() for buffer in state.network.buffers()]
        for part, places in zip(
            pixels.chunk(experiment.accumulation), positions.chunk(experiment.accumulation), strict=True
        ):
            if self.stop.requested:
                state.take_back(buffers)
                return None
            loss = self._loss(part, places)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        if experiment.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(state.network.parameters(), experiment.clip_norm)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        if state.average is not None:
            state.average.update()
        state.step += 1
        return total

    def _loss(self, pixels: Tensor, positions: Tensor) -> Tensor:
        """The part of the batch's mean loss that these images contribute."""
        x = self.preprocessing.training(pixels, positions)
        levels = self.levels.integers(positions, self.experiment.schedule.levels)
        noise = self.noise.normal(positions, self.experiment.data.shape)
        losses = score_matching_loss(self.state.network, x, levels, noise, self.experiment.loss.power)
        return losses.sum() / self.experiment.batch_size

    def _is_due(self, every: int) -> bool:
        return self.state.step % every == 0

    def _report_if_due(self) -> None:
        if self._is_due(self.experiment.log_every):
            self._report_losses()
        if self._is_due(self.experiment.eval_every) and not self.stop.requested:
            self._evaluate()
            self.observer.phase(TRAINING)

    def _evaluate(self) -> None:
        """Records the held-out loss of this step, of the averaged weights where there are any."""
        if self.held_out is not None:
            self.observer.phase(EVALUATING)
            loss = self.held_out.loss(self.state.evaluation_network())
            weights, _ = weights_of(self.experiment)
            self.recorder.held_out(self.state.step, loss, weights)
            self.observer.held_out(self.state.step, loss.mean, weights)

    def _evaluate_if_owed(self) -> None:
        """Makes up for the held-out loss of this step's checkpoint, for which a stop had no time."""
        step = self.state.step
        if step > 0 and self._is_due(self.experiment.eval_every) and not self.stop.requested:
            records = MetricsLog(self.folder).read()
            if not any(record["step"] == step and "held_out" in record for record in records):
                self._evaluate()

    def _report_losses(self) -> None:
        """Records the mean loss since the last record; the one place where a step waits for the device."""
        if not self.losses:
            return
        losses, self.losses = torch.stack(self.losses).tolist(), []
        step = self.state.step
        for number, loss in enumerate(losses, start=step - len(losses) + 1):
            if not math.isfinite(loss):
                raise non_finite("the loss", number, self.experiment)
        mean = sum(losses) / len(losses)
        self.recorder.training(
            step, mean, learning_rate(self.experiment.optimizer, step - 1, self.experiment.warmup_steps)
        )
        memory = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None
        self.observer.logged(step, mean, device_memory_bytes=memory)

    def _checkpoint(self) -> None:
        """Writes a checkpoint of this step, unless there is one or no step was made."""
        if self.state.step == self.saved_step:
            return
        self._report_losses()
        self.recorder.flush()
        self.state.require_finite()
        self.observer.phase(CHECKPOINT)
        path = self.state.save(self.folder)
        self.saved_step = self.state.step
        self.observer.checkpoint(self.state.step, path)
        self._retain()

    def _announce_retention(self) -> None:
        """Says what will be removed, before anything is; then removes what is due already."""
        if self.experiment.retention.removes_anything:
            self.observer.phase("verifying the checkpoints that retention relies on")
        for line in self.pruner.announcement():
            self.observer.warning(line)
        self._retain()

    def _retain(self) -> None:
        """Removes what the experiment's retention doesn't keep. Whatever goes wrong, the training goes on."""
        outcome = self.pruner.apply()
        if outcome.removed or outcome.stripped:
            self.observer.note(str(outcome))
        for problem in outcome.problems:
            self.observer.warning(problem)

    def _sample_if_due(self) -> None:
        """Draws the grid of this step's checkpoint, if one is due and it isn't there."""
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
                self.device,
                check_stop=self.stop.check,
                progress=self.observer.sampling,
            )
        except DivergedError as error:  # no reason to end the training: later weights may do better
            self.observer.warning(f"no grid of samples for step {step:,}: {error}")
        else:
            self.recorder.snapshot(step, path, grid)
