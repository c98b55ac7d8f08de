"""A training from start to end: chooses the execution, opens the data, and trains or resumes the run."""

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import attrs

from ncsnx.config.codec import differences
from ncsnx.config.experiment import Experiment
from ncsnx.config.origins import COMMAND_LINE
from ncsnx.config.sampler import Sampler
from ncsnx.config.training import CosineDecay
from ncsnx.config.variants import load_plugins, tag_of
from ncsnx.data import Splits, cache_in_memory, open_data
from ncsnx.data.memory_cache import CachedImages
from ncsnx.data.value_statistics import measured_space
from ncsnx.errors import Hint, NcsnxError, Stopped, UsageError
from ncsnx.jobs.training_job import TrainedRun, TrainingJob
from ncsnx.model_spec import ModelSpec
from ncsnx.networks import meta_network
from ncsnx.planning.budget import RESERVE
from ncsnx.planning.timing import steps_within, time_experiment
from ncsnx.quantities import counted, percent
from ncsnx.ranks.joining import require_same
from ncsnx.ranks.rank_group import RankGroup, held_by_first
from ncsnx.reporting.report import RenewedReport
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import checkpoints
from ncsnx.runs.metrics_log import MetricsLog
from ncsnx.runs.writer_lock import writer_lock
from ncsnx.runtime import Runtime, device_name
from ncsnx.sampling.consistency import MULTISTEP_WORDS, is_multistep, tuned_candidates
from ncsnx.sampling.sampler_choice import warn_of_solver
from ncsnx.space import Space
from ncsnx.spelling import A_RUN, argument, parameter
from ncsnx.tracking.sending import tracked
from ncsnx.training.agreed_stop import AgreedStop
from ncsnx.training.initial_weights import InitialWeights, initial_weights, kept_weights, same_weights
from ncsnx.training.loop import train_steps
from ncsnx.training.observer import TrainingObserver
from ncsnx.training.optimizers import learning_rate
from ncsnx.training.run_files import TENSORBOARD_HINT, has_tensorboard
from ncsnx.training.snapshots import snapshot_sampler
from ncsnx.training.start import load_newest, record_start, require_above_noise, require_same_identity
from ncsnx.training.training_state import TrainingState
from ncsnx.training.training_step import require_shareable
from ncsnx.work import Work

_WEIGHTS_IN_WORDS = "raw: of the weights in training; EMA: of their moving average, which is sampled"
"""Meaning of the marks behind losses."""
_TIMED = "fitted to the given time"
"""Origin of the steps of a run that ends after a given time."""


def train_run(job: TrainingJob, work: Work) -> TrainedRun:
    """Trains until the experiment's last step; an existing run resumes. All ranks of `work` call it.

    Raises Stopped after a stop request, once a checkpoint of the step reached is written. Raises NcsnxError.
    """
    load_plugins("ncsnx.runtime")
    end_s = time.monotonic() + (math.inf if job.budget_s is None else job.budget_s)
    with work.interruptible():
        runtime = _runtime(job, work.ranks)
        job, initial = _started(job)
        meta_network(job.experiment)  # refuses early what it can't take
        splits = open_data(job.experiment.data, job.data, work)
        require_same(work.ranks, "has other data", {"fingerprint": splits.fingerprint})
        suggested = [] if initial else [Hint("set", adds=f"model.classes={len(splits.class_names)}")]
        names = initial.class_names if initial else ()
        splits.require_classes(job.experiment.model.classes, names, *suggested)
        space = work.ranks.first(lambda: _space(job, splits, work))
        require_above_noise(job.experiment, space)
        spec = ModelSpec.of(job.experiment, space)
        for sampler in dict.fromkeys([job.experiment.sampler, snapshot_sampler(job.experiment)]):
            attrs.evolve(spec, sampler=sampler).require_classes()
            warn_of_solver(work, sampler, spec)
        splits = cache_in_memory(splits, runtime.device, processes=work.ranks.local_world)
        job = _ending_in_time(job, end_s, runtime, work)
        state = TrainingState(job.experiment, runtime, space)
        require_shareable(state.network, job.experiment, work.ranks.world)
    run = work.ranks.first(lambda: _run(job, splits.fingerprint, space))
    return _OpenTraining(job, work, run, state, splits, end_s, initial).carry_out()


def _started(job: TrainingJob) -> tuple[TrainingJob, InitialWeights | None]:
    """The job with the network of the weights that it starts from, and these."""
    run, before, start, step = job.existing(), job.experiment, job.start, None
    if start is None:
        if not before.loss.learns_scores and before.initial_weights is None:
            raise UsageError(
                "loss=consistency tunes a network that is trained already",
                Hint("say which", adds=argument("start", A_RUN)),
            )
        if before.initial_weights is None or job.derived_from is None or (run is not None and checkpoints(run)):
            return _with_sampler_of_loss(job), None
        start, step = same_weights(job.derived_from)
    initial, kept = None, None if run is None else kept_weights(before, run, start)
    if kept is None:
        initial = initial_weights(before, start, step)
        kept = initial.experiment, initial.origin
    after, origin = kept
    typed = [one.path for one in differences(before, after) if job.origins.get(one.path) == COMMAND_LINE]
    if step is not None or any(path.startswith("sampler") for path in typed):  # it doesn't touch the weights
        after = attrs.evolve(after, sampler=before.sampler)
    if typed := [path for path in typed if not path.startswith("sampler")]:
        raise UsageError(
            f"{', '.join(typed)}: given by the weights of {start.where}, so that it cannot be changed",
            Hint("leave it out"),
        )
    changed = [one.path for one in differences(before, after)]
    job = attrs.evolve(job, experiment=after, origins={**job.origins, **dict.fromkeys(changed, origin)})
    return _with_sampler_of_loss(job), initial


def _with_sampler_of_loss(job: TrainingJob) -> TrainingJob:
    """The job with the sampler that its loss makes the network for, where the loss was typed and no sampler was.

    Raises UsageError for typed fields of another sampler.
    """
    before, typed = job.experiment, {path for path, origin in job.origins.items() if origin == COMMAND_LINE}
    if before.loss.learns_scores or "loss" not in typed:
        return job
    after = before
    if "sampler" not in typed and not is_multistep(before.sampler):
        shared = {f"sampler.{field.name}" for field in attrs.fields(Sampler)}
        if others := sorted(path for path in typed - shared if path.startswith("sampler.")):
            raise UsageError(
                f"{others[0]}: a field of sampler={tag_of(type(before.sampler))}, which needs a score network",
                Hint("name the sampler of loss=consistency too", adds=MULTISTEP_WORDS),
            )
        after = attrs.evolve(after, sampler=tuned_candidates(before)[0])
    own = None if after.snapshots is None else after.snapshots.sampler
    if after.snapshots and own and "snapshots.sampler" not in typed and not is_multistep(own):
        after = attrs.evolve(after, snapshots=attrs.evolve(after.snapshots, sampler=None))
    changed = [one.path for one in differences(before, after)]
    return attrs.evolve(job, experiment=after, origins={**job.origins, **dict.fromkeys(changed, "loss=consistency")})


def _runtime(job: TrainingJob, ranks: RankGroup) -> Runtime:
    """The runtime choices; before data is read."""
    runtime = job.runtime(ranks).for_training(job.experiment)
    require_same(ranks, "chose another device", {"device": runtime.device.type})
    return runtime


def _space(job: TrainingJob, splits: Splits, work: Work) -> Space:
    """The space of the images: measured for a new run, else that of the run in the window that is now declared."""
    if (run := job.existing()) is None:
        return measured_space(job.experiment, splits, job.name, work)
    return run.space().shown_as(job.experiment.data)


def _ending_in_time(job: TrainingJob, end_s: float, runtime: Runtime, work: Work) -> TrainingJob:
    """The job with the steps, and a cosine decay over them, that fit until `end_s`; an existing run keeps its own.

    What was typed stays as it is.
    """
    if job.budget_s is None:
        return job
    before, run = job.experiment, job.existing()
    typed = {path for path in ("steps", "decay.steps") if job.origins.get(path) == COMMAND_LINE}
    if run is not None:
        recorded = run.experiment()
        last = recorded.decay.steps if isinstance(recorded.decay, CosineDecay) else None
        return attrs.evolve(job, experiment=_with_steps(before, typed, recorded.steps, last))
    if "steps" in typed:
        return job
    # each rank computes its share of a batch
    share = attrs.evolve(before, batch_size=math.ceil(before.batch_size / work.ranks.world), accumulation=1)
    if work.ranks.world == 1:
        share = before
    timing = work.ranks.first(lambda: time_experiment(share, runtime, work))
    usable_s = work.ranks.first(lambda: (end_s - time.monotonic()) * (1 - RESERVE))
    steps = steps_within(usable_s, share, timing)
    after = _with_steps(before, typed, steps, steps)
    work.info(f"{counted(steps, 'step')} {'fits' if steps == 1 else 'fit'}, estimated from a quick timing")
    timed = {one.path: _TIMED for one in differences(before, after)}
    return attrs.evolve(job, experiment=after, origins={**job.origins, **timed})


def _with_steps(experiment: Experiment, typed: set[str], steps: int, last: int | None) -> Experiment:
    """The experiment with so many steps, and a cosine decay until the last one, unless these were typed."""
    changes: dict[str, Any] = {} if "steps" in typed else {"steps": steps}
    if last is not None and isinstance(experiment.decay, CosineDecay) and "decay.steps" not in typed:
        changes["decay"] = attrs.evolve(experiment.decay, steps=last)
    return attrs.evolve(experiment, **changes)


def _run(job: TrainingJob, fingerprint: str, space: Space) -> Run:
    """The run, existing or new."""
    if (run := job.existing()) is not None:
        return run
    return Run.create(job.folder, job.name, job.experiment, dict(job.origins), job.file_text, fingerprint, space)


@attrs.frozen
class _OpenTraining:
    """A training whose data is open and whose run exists."""

    job: TrainingJob
    work: Work
    run: Run
    state: TrainingState
    splits: Splits
    end_s: float
    """Time on the monotonic clock when the training is to end, if it hasn't reached its last step."""
    initial: InitialWeights | None
    """Weights that a new run starts from."""

    def carry_out(self) -> TrainedRun:
        """Trains while this process, or rank 0, holds the run's lock."""
        run, work = self.run, self.work
        with held_by_first(work.ranks, writer_lock(run)):
            changes = self._begin()
            start_step = self.state.step
            view = work.training(
                total_steps=self.state.experiment.steps,
                start_step=start_step,
                batch_size=self.state.experiment.batch_size,
                dimensions=math.prod(self.state.experiment.data.shape),
                folder=run.path,
            )
            with view as display:
                display.start(self._facts())
                for line in (*changes, *self._remarks()):
                    work.info(line)
                try:
                    followed = self._followed(display) if work.ranks.is_first else nullcontext(display)
                    with followed as observer:
                        train_steps(self.state, self.splits, run, observer, work.stop, work.ranks, self.end_s)
                except Stopped as stopped:
                    if work.ranks.is_first and (steps := checkpoints(run)):
                        stopped.then = f"the same command resumes from step {steps[-1]:,}"
                    display.finish("ended")  # the caller gives the reason
                    raise
                is_complete = self.state.experiment.is_complete(self.state.step)
                display.finish("finished" if is_complete else "ended")
        work.ranks.end_others()
        if not is_complete:
            work.info(self._ended_in_words())
        records = MetricsLog(run).read()
        loss = next((record["loss"] for record in reversed(records) if isinstance(record.get("loss"), float)), None)
        return TrainedRun(run=run, start_step=start_step, step=self.state.step, loss=loss)

    def _ended_in_words(self) -> str:
        """Sentence for a training whose time is up."""
        experiment, step = self.state.experiment, self.state.step
        ended = f"stopped at step {step:,} of {experiment.steps:,}: time limit reached"
        if step < experiment.warmup_steps:
            ended += ", still warming up"
        elif experiment.decay is not None:
            ended += f", learning rate at {_rate_in_words(experiment, step)}"
        return f"{ended}; the same command resumes, for the same time"

    @contextmanager
    def _followed(self, observer: TrainingObserver) -> Iterator[TrainingObserver]:
        """The observer of a training that trackers and the run's page follow."""
        trackers, stop = tuple(self.job.trackers or ()), self.work.stop
        with ExitStack() as following:
            following.enter_context(
                tracked(self.run, trackers, observer.warning, observer.note, lambda: stop.requested)
            )
            if self.job.report:
                observer = following.enter_context(RenewedReport(self.run, observer))
            yield observer

    def _begin(self) -> list[str]:
        """Loads the newest checkpoint and records this start; returns what changed since the last one."""
        job, run, work, state = self.job, self.run, self.work, self.state
        fingerprint = self.splits.fingerprint
        changes = work.ranks.first(lambda: require_same_identity(run, state.experiment, fingerprint))
        work.attach(run.log_path)
        code_folder = Path.cwd() if job.file is None else job.file.parent
        with AgreedStop(work.stop, work.ranks).interruptible():
            warnings = load_newest(run, state, work.ranks)
            if run.data_fingerprint() is None:
                run.steps()  # raises for an import that was interrupted
            if state.step == 0 and state.experiment.initial_weights is not None:
                self._start_from()
            work.ranks.first(lambda: record_start(run, state, changes, dict(job.origins), job.note, code_folder))
        for warning in warnings:
            work.warning(warning)
        if work.ranks.first(run.data_fingerprint) is None:
            work.ranks.first(lambda: run.adopt_data(fingerprint))
            work.info(f"data: the run had none recorded, and resumes with fingerprint {fingerprint[:12]}…")
        return [f"changed since the last start: {change}" for change in changes]

    def _start_from(self) -> None:
        """Gives a new run its weights. Raises NcsnxError if they aren't at hand."""
        if self.initial is None:
            raise NcsnxError(
                f"{self.run.path} starts from weights that it has no checkpoint of yet",
                Hint("repeat the first command, which names them", adds=argument("start", A_RUN)),
            )
        self.state.start_from(self.initial)
        self.work.info(f"{self.initial.origin}, step {self.initial.record.step:,}")

    def _remarks(self) -> list[str]:
        """Hints before the first step."""
        experiment, step, remarks = self.state.experiment, self.state.step, list[str]()
        decay, steps = experiment.decay, experiment.steps
        if isinstance(decay, CosineDecay) and max(step + 1, experiment.steps) > decay.steps:
            remarks.append(
                f"the learning rate is 0 from step {decay.steps:,} on (decay.steps); for a longer training, start "
                f"another run with more: steps={2 * decay.steps} decay.steps={2 * decay.steps}"
            )
        elif isinstance(decay, CosineDecay) and steps < decay.steps:
            remarks.append(
                f"the learning rate ends at {_rate_in_words(experiment, steps)}, since decay.steps is {decay.steps:,}; "
                f"for a complete decay, start another run: steps={steps} decay.steps={steps}"
            )
        elif experiment.is_complete(step):
            remarks.append(f"complete: nothing to train; to train on, give more steps, as in steps={2 * step}")
        if self.state.runtime.workers and isinstance(self.splits.train, CachedImages):
            remarks.append(f"{parameter('workers')} has no effect: the training images are in memory")
        if not has_tensorboard():
            remarks.append(TENSORBOARD_HINT)
        return remarks

    def _facts(self) -> dict[str, str]:
        """Summary of the configuration."""
        experiment, schedule = self.state.experiment, self.state.experiment.schedule
        splits, runtime = self.splits, self.state.runtime
        parameters = sum(parameter.numel() for parameter in self.state.network.parameters())
        channels, height, width = experiment.data.shape
        facts = {
            "experiment": experiment.name,
            "data": f"{tag_of(type(experiment.data))}: {counted(len(splits.train), 'image')} of "
            f"{channels}×{height}×{width}, {len(splits.held_out):,} held out",
            **({} if experiment.data.is_bounded else {"values": _values_in_words(self.state.space)}),
            "network": f"{tag_of(type(experiment.model))}, {counted(parameters, 'parameter')}",
            "noise": f"{schedule.in_words}{_noise_in_words(self.state.space)}",
            "training": f"{counted(experiment.steps, 'step')} of {counted(experiment.batch_size, 'image')}, "
            f"{tag_of(type(experiment.optimizer))} at {experiment.optimizer.lr:g}, {experiment.precision}",
            **({} if experiment.ema is None else {"losses": _WEIGHTS_IN_WORDS}),
            "device": f"{runtime.device} ({device_name(runtime.device)}), {counted(runtime.threads, 'thread')}",
            **({"ranks": f"{runtime.ranks}, each with a part of every batch"} if runtime.ranks > 1 else {}),
            "files": str(self.run.path),
            **({"trackers": ", ".join(trackers)} if (trackers := self.job.trackers) else {}),
        }
        if self.state.step:
            facts["resuming"] = f"from step {self.state.step:,}"
        return facts


def _rate_in_words(experiment: Experiment, step: int) -> str:
    return f"{percent(learning_rate(experiment, step) / experiment.optimizer.lr)} of optimizer.lr"


def _noise_in_words(space: Space) -> str:
    """What the noise of the data changes."""
    return f"; of it σ = {space.noise:.4g} is in the data, and the rest is added" if space.noise else ""


def _values_in_words(space: Space) -> str:
    """How unbounded values reach the network, and how pictures show them."""
    return f"unbounded, in units of {space.span:g}; pictures show {space.pictures}"
