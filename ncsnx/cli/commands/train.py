"""`ncsnx train`: trains an experiment, or resumes a run."""

import math
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ncsnx.cli import options
from ncsnx.cli.bad_values import a_count
from ncsnx.cli.command_registry import TRAIN_PANEL, command
from ncsnx.cli.session import Shared, session, work_of
from ncsnx.quantities import counted

if TYPE_CHECKING:
    from ncsnx.cli.parsing.targets import Target
    from ncsnx.config.experiment import Experiment
    from ncsnx.console.messages import Messages
    from ncsnx.data import Splits
    from ncsnx.runs.folder import Run
    from ncsnx.runs.git_patches import GitSource
    from ncsnx.runtime import Runtime
    from ncsnx.stopping import StopRequest
    from ncsnx.training.compiling.compilation import Decision
    from ncsnx.training.observer import TrainingObserver
    from ncsnx.training.training_state import TrainingState


def _refuse_fields(words: list[str]) -> None:
    """Raises UsageError for a field that is typed as an option (`--steps 900`), with the command for `steps=900`."""
    import inspect

    import attrs

    from ncsnx.config.experiment import Experiment
    from ncsnx.errors import Hint, UsageError

    fields = {field.name for field in attrs.fields(Experiment)}
    options_of_train = inspect.signature(train_command).parameters
    for place, word in enumerate(words):
        option, equals, value = word.partition("=")
        path = option.removeprefix("--").replace("-", "_")
        if option.startswith("--") and path.partition(".")[0] in fields and path not in options_of_train:
            after = words[place + 1 :]
            if not equals and after:
                value, *after = after
            typed = shlex.join(["ncsnx", "train", *words[:place], f"{path}={value or 'VALUE'}", *after])
            raise UsageError(f"{option} is not an option: {path} is a field of the experiment", Hint("type", typed))


@command("train", panel=TRAIN_PANEL, place=10, check_words=_refuse_fields)
def train_command(
    experiment: options.ExperimentOrRun,
    overrides: options.ExperimentChanges = None,
    runs: options.Runs = None,
    data: options.DataFolder = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    compile: Annotated[
        bool | None,
        typer.Option(
            "--compile/--no-compile",
            help="Compile the network (torch.compile).",
            show_default="long trainings on CPUs; when resuming, as before",
            rich_help_panel=options.EXECUTION_PANEL,
        ),
    ] = None,
    graphs: options.Graphs = None,
    plain: options.Plain = False,
    checkpointing: Annotated[
        bool,
        typer.Option(
            "--checkpointing",
            help="Compute activations again in the backward pass: a fifth of the memory, more time, the same bits.",
            rich_help_panel=options.EXECUTION_PANEL,
        ),
    ] = False,
    gpus: options.Gpus = None,
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            metavar="N",
            parser=a_count(0, 256),
            help="Processes that read data ahead.",
            rich_help_panel=options.EXECUTION_PANEL,
        ),
    ] = 0,
    patch: Annotated[
        bool,
        typer.Option(
            "--patch/--no-patch",
            envvar="NCSNX_PATCH",
            help="Record uncommitted changes of the experiment file's git repository in the run.",
            show_default="recorded, unless NCSNX_PATCH=0",
            rich_help_panel=options.OUTPUT_PANEL,
        ),
    ] = True,
    run: options.NewRunName = None,
    report: Annotated[
        bool,
        typer.Option(
            "--report/--no-report",
            help="Renew the page RUN/report.html at checkpoints; see `ncsnx report`.",
            rich_help_panel=options.OUTPUT_PANEL,
        ),
    ] = True,
    track: Annotated[
        str | None,
        typer.Option(
            "--track",
            metavar="TAGS",
            help="Send losses, samples and scores to experiment trackers: wandb, trackio, mlflow.",
            show_default="when resuming, as before",
            rich_help_panel=options.OUTPUT_PANEL,
        ),
    ] = None,
    no_track: Annotated[
        bool,
        typer.Option(
            "--no-track",
            help="Send nothing to trackers, now and when the run resumes.",
            rich_help_panel=options.OUTPUT_PANEL,
        ),
    ] = False,
    note: options.Note = "",
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Train an experiment; an existing run resumes.

    FIELD=VALUE changes the experiment: `ncsnx train digits optimizer=sgd optimizer.momentum=0.8 steps=50k`. A run
    resumes from its newest intact checkpoint, and needs none of these again: `ncsnx train runs/NAME`. With
    `--run NEW` its configuration starts a new run.

    Ctrl-C, SIGTERM or a closed terminal (unless nohup is used) writes a checkpoint and ends with exit code 130, 143 or
    129. The same command resumes from there.
    """
    with session(
        "no step was trained; repeat the command to train",
        verbose=verbose,
        quiet=quiet,
        shared=Shared(gpus=gpus, device=device),
    ) as messages:
        from ncsnx.cli.parsing.targets import find_training
        from ncsnx.config.codec import flatten, unstructure
        from ncsnx.ranks.joining import require_same
        from ncsnx.runs.names import runs_folder

        found, folder, name = find_training(experiment, runs_folder(runs), overrides, run)
        messages.detail(f"experiment {found.experiment.name} from {found.where}")
        ranks = messages.ranks
        require_same(ranks, "has another experiment", dict(flatten(unstructure(found.experiment))))
        ranks.first(lambda: _require_unheld(folder, name))
        trackers, warnings = ranks.first(lambda: _trackers(folder / name, track, no_track))
        for warning in warnings:
            messages.warning(warning)

        from ncsnx.config.variants import load_plugins
        from ncsnx.data import cache_in_memory, data_folder, open_data
        from ncsnx.runs.git_patches import GitSource
        from ncsnx.runtime import Runtime
        from ncsnx.stopping import StopRequest
        from ncsnx.training.steps.batch_gradients import require_shareable
        from ncsnx.training.training_state import TrainingState

        load_plugins("ncsnx.runtime")
        with StopRequest() as stop:
            with stop.at_once():
                runtime = Runtime.choose(
                    device=device,
                    threads=threads,
                    plain=plain,
                    graphs=graphs,
                    checkpointing=checkpointing,
                    workers=workers,
                    ranks=ranks,
                )
                runtime = runtime.for_training(found.experiment)  # before data is read
                compilation = ranks.first(lambda: _compilation(compile, folder / name, found.experiment, runtime))
                runtime = runtime.compiled() if compilation.compile else runtime
                require_same(ranks, "chose another device", {"device": runtime.device.type})
                splits = open_data(found.experiment.data, data_folder(data), work_of(messages, stop))
                require_same(ranks, "has other data", {"fingerprint": splits.fingerprint})
                splits = cache_in_memory(splits, runtime.device, processes=ranks.local_world)
                state = TrainingState(found.experiment, runtime)
                require_shareable(state.network, found.experiment, ranks.world)
            _announce(messages, compilation)
            place = ranks.first(lambda: _place(folder, name, found, splits.fingerprint))
            source = GitSource(Path.cwd() if found.file is None else Path(found.file).parent, patch)
            _train(messages, place, state, found.origins, splits, runtime, stop, note, source, report, trackers)
        _say_what_next(messages, place, runs)


def _require_unheld(folder: Path, name: str) -> None:
    """Refuses a run that another process writes, at once: before torch is imported and data is opened."""
    from ncsnx.runs.folder import open_run
    from ncsnx.runs.writer_lock import writer_lock

    if (folder / name).exists():
        with writer_lock(open_run(folder, f"{folder}/{name}")):
            pass  # the training takes the lock that counts


def _trackers(run: Path, track: str | None, no_track: bool) -> tuple[tuple[str, ...], list[str]]:
    """The trackers to use, which are installed, and warnings. Raises NcsnxError before anything is trained."""
    from ncsnx.errors import UsageError
    from ncsnx.runs.folder import Run
    from ncsnx.tracking.choosing import parse_trackers, recorded_trackers

    if track is not None and no_track:
        raise UsageError("--track and --no-track exclude each other")
    if track is not None:
        return parse_trackers(track, "track"), []
    return ((), []) if no_track else recorded_trackers(Run(run))


def _compilation(compile: bool | None, run: Path, experiment: "Experiment", runtime: "Runtime") -> "Decision":
    """Whether the training is compiled."""
    from ncsnx.networks import meta_network
    from ncsnx.runs.folder import open_run
    from ncsnx.runs.segments import last_training
    from ncsnx.training.compiling.compilation import decide

    last = last_training(open_run(run.parent, str(run))) if run.exists() else None
    recorded = None if last is None else last.runtime.get("compiled_gradients") is True
    parameters = sum(parameter.numel() for parameter in meta_network(experiment).parameters())
    return decide(compile, experiment, runtime, parameters, recorded)


def _announce(messages: "Messages", compilation: "Decision") -> None:
    if compilation.ends_identity:
        messages.warning(compilation.reason)
    elif compilation.compile:
        messages.info(compilation.reason)
    else:
        messages.detail(compilation.reason)


def _place(folder: Path, name: str, found: "Target", fingerprint: str) -> "Run":
    """The run, existing or new."""
    from ncsnx.runs.folder import Run, open_run

    if (folder / name).exists():
        return open_run(folder, f"{folder}/{name}")  # a path, so that no run of that name elsewhere is found
    return Run.create(folder, name, found.experiment, found.origins, found.source, fingerprint)


def _train(
    messages: "Messages",
    place: "Run",
    state: "TrainingState",
    origins: dict[str, str],
    splits: "Splits",
    runtime: "Runtime",
    stop: "StopRequest",
    note: str,
    source: "GitSource",
    report: bool,
    trackers: tuple[str, ...],
) -> None:
    from contextlib import nullcontext

    from ncsnx.console.training import TrainingView
    from ncsnx.errors import Stopped
    from ncsnx.ranks.rank_group import held_by_first
    from ncsnx.runs.checkpoints.manifest import checkpoints
    from ncsnx.runs.writer_lock import writer_lock
    from ncsnx.training.files.recording import TENSORBOARD_HINT, has_tensorboard
    from ncsnx.training.loop import train
    from ncsnx.training.pauses import pauses_of
    from ncsnx.training.start import begin, require_same_identity
    from ncsnx.training.steps.agreed_stop import AgreedStop

    experiment, ranks = state.experiment, messages.ranks
    with held_by_first(ranks, writer_lock(place, messages.warning)):
        changes = ranks.first(lambda: require_same_identity(place, experiment, splits.fingerprint))
        messages.attach(place.log_path)
        with AgreedStop(stop, ranks).at_once():
            warnings = begin(place, state, changes, origins, runtime, note, ranks, source)
        for warning in (*warnings, *experiment.known_biases):
            messages.warning(warning)
        if ranks.first(place.data_fingerprint) is None:
            ranks.first(lambda: place.adopt_data(splits.fingerprint))
            messages.info(f"data: the run had none recorded, and resumes with fingerprint {splits.fingerprint[:12]}…")
        view = TrainingView(
            messages,
            total_steps=experiment.steps,
            start_step=state.step,
            batch_size=experiment.batch_size,
            folder=place.path,
            pauses=pauses_of(experiment, held_out=len(splits.held_out) > 0),
            losses=_earlier_losses(place, state.step),
        )
        with view:
            view.start(_facts(place, state, splits, runtime, trackers))
            for change in changes:
                messages.info(f"changed since the last start: {change}")
            if state.step >= experiment.steps:
                messages.info(f"complete: nothing to train; to train on, give more steps, as in steps={2 * state.step}")
            if not has_tensorboard():
                messages.info(TENSORBOARD_HINT)
            try:
                with (
                    _followed(place, view, trackers, report, stop) if ranks.is_first else nullcontext(view) as observer
                ):
                    train(state, splits, place, runtime, observer, stop, ranks)
            except Stopped as stopped:
                if steps := checkpoints(place):
                    stopped.then = f"the same command resumes from step {steps[-1]:,}"
                view.finish("ended")  # the session gives the reason
                raise
            view.finish()


@contextmanager
def _followed(
    place: "Run", observer: "TrainingObserver", trackers: tuple[str, ...], report: bool, stop: "StopRequest"
) -> Iterator["TrainingObserver"]:
    """The observer for a training that trackers and the run's page follow."""
    from ncsnx.report.renewal import renewed_report
    from ncsnx.tracking.choosing import record_trackers
    from ncsnx.tracking.tracked_training import tracked

    record_trackers(place, trackers)
    with ExitStack() as following:
        if trackers:
            observer = following.enter_context(tracked(place, observer, trackers, lambda: stop.requested))
        if report:
            observer = following.enter_context(renewed_report(place, observer))
        yield observer


def _earlier_losses(place: "Run", step: int) -> list[float]:
    """The training losses logged up to a step; NaN for values that aren't numbers."""
    from ncsnx.runs.metrics_log import MetricsLog

    records = [record for record in MetricsLog(place).read() if isinstance(record.get("step"), int)]
    losses = [record["loss"] for record in records if "loss" in record and record["step"] <= step]
    return [loss if isinstance(loss, float) else math.nan for loss in losses]


def _facts(
    place: "Run", state: "TrainingState", splits: "Splits", runtime: "Runtime", trackers: tuple[str, ...]
) -> dict[str, str]:
    """Summary of the configuration."""
    from ncsnx.config.variants import tag_of
    from ncsnx.runtime import device_name

    experiment, schedule = state.experiment, state.experiment.schedule
    parameters = sum(parameter.numel() for parameter in state.network.parameters())
    channels, height, width = splits.train.shape
    facts = {
        "experiment": experiment.name,
        "data": f"{tag_of(type(experiment.data))}: {counted(len(splits.train), 'image')} of "
        f"{channels}×{height}×{width}, {len(splits.held_out):,} held out",
        "network": f"{tag_of(type(experiment.model))}, {counted(parameters, 'parameter')}",
        "noise": f"σ {schedule.sigma_max:g} → {schedule.sigma_min:g} in {counted(schedule.levels, 'level')}",
        "training": f"{counted(experiment.steps, 'step')} of {counted(experiment.batch_size, 'image')}, "
        f"{tag_of(type(experiment.optimizer))} at {experiment.optimizer.lr:g}, {experiment.precision}",
        "device": f"{runtime.device} ({device_name(runtime.device)}), {counted(runtime.threads, 'thread')}",
        **({"ranks": f"{runtime.ranks}, each with a part of every batch"} if runtime.ranks > 1 else {}),
        "files": str(place.path),
        **({"trackers": ", ".join(trackers)} if trackers else {}),
    }
    if state.step:
        facts["resuming"] = f"from step {state.step:,}"
    return facts


def _say_what_next(messages: "Messages", place: "Run", runs: Path | None) -> None:
    """Lists what was written, and what to type next."""
    from ncsnx.runs.checkpoints.manifest import checkpoints
    from ncsnx.runs.names import runs_folder

    option = f" --runs {shlex.quote(str(runs))}" if runs is not None else ""
    steps = checkpoints(place)
    name = shlex.quote(place.name)
    if place.path.parent != runs_folder(runs):  # a run that was named by its path
        name, option = place.path_typed, ""
    if place.snapshots.is_dir():
        messages.info(f"grids of samples: {place.snapshots}")
    messages.info(f"checkpoints: {len(steps):,}, the newest at step {steps[-1]:,}" if steps else "no checkpoint")
    messages.info(f"next: ncsnx sample {name} --ckpt latest --n 64{option}")
