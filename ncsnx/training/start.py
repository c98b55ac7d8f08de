"""Starts training: a new run, or an existing one from its newest sound checkpoint.

A run is resumed if its identity and the fingerprint of its data are unchanged. Name, steps, cadence, retention, sampler
and note may change, and the change is recorded.
"""

from functools import partial
from pathlib import Path

from ncsnx.config.codec import ABSENT, Difference, differences, identity, shown
from ncsnx.config.experiment import Experiment
from ncsnx.config.plugins import plugins_of
from ncsnx.errors import Hint, NcsnxError, UsageError, printable, shortened
from ncsnx.ranks.rank_group import ALONE, RankGroup
from ncsnx.runs.folder import Origins, Run
from ncsnx.runs.manifest import UnsoundError, checkpoints, set_aside
from ncsnx.runs.names import step_name
from ncsnx.runs.retention import remove_debris
from ncsnx.runs.segments import append_segment, last_training, require_beginning, versions
from ncsnx.space import NOISE_TOLERANCE, Space
from ncsnx.spelling import argument
from ncsnx.storage.documents import write_document
from ncsnx.training.training_state import TrainingState


def require_same_identity(run: Run, experiment: Experiment, fingerprint: str | None) -> list[Difference]:
    """Differences that don't affect identity. Raises NcsnxError with the differences if the identity differs.

    Data fingerprints are compared if both are known: a run that was only imported has none, and `fingerprint` is None
    without data.
    """
    recorded = run.experiment()
    changes = differences(recorded, experiment)
    if identity(recorded) != identity(experiment):
        listed = "; ".join(str(change) for change in changes if change.identity)
        raise UsageError(
            f"{run.path} belongs to another experiment; these values change what is trained: {listed}",
            Hint("start a new run", adds=argument("name", f"{run.name}-2")),
            Hint("or resume the run as it is", f"ncsnx train {run.cli_path}"),
        )
    data = run.data_fingerprint()
    if data is not None and fingerprint is not None and data != fingerprint:
        raise NcsnxError(
            f"{run.path} was trained on other data (fingerprint {data[:12]}…, now {fingerprint[:12]}…)",
            Hint("restore the data"),
            Hint("or start a new run", adds=argument("name", f"{run.name}-2")),
        )
    return [change for change in changes if not change.identity]


def require_above_noise(experiment: Experiment, space: Space) -> None:
    """Raises UsageError for levels and ends of samplers below the noise of the data, where nothing is learned."""
    least, schedule, grids = space.noise, experiment.schedule, experiment.snapshots
    if not least:
        return
    known = f"{experiment.data.noise_as_typed} is σ = {least:.6g} in the range of the network"
    if schedule.sigma_max <= least:
        raise UsageError(f"{known}: expected less than σ_1, schedule.sigma_max={schedule.sigma_max:g}")
    samplers = {"sampler": experiment.sampler, "snapshots.sampler": None if grids is None else grids.sampler}
    ends = {f"{path}.grid": getattr(getattr(one, "grid", None), "sigma_min", None) for path, one in samplers.items()}
    ends["schedule"] = schedule.sigma_min
    below = [path for path, end in ends.items() if end is not None and end < least * (1 - NOISE_TOLERANCE)]
    if below:
        changes = " ".join(f"{path}.sigma_min={least:.6g}" for path in below)
        raise UsageError(f"{known}, below which nothing can be learned", Hint("end there", adds=changes))


def load_newest(run: Run, state: TrainingState, ranks: RankGroup = ALONE) -> list[str]:
    """Loads the run's newest sound checkpoint, if any, into `state`. The caller holds the lock, or rank 0 of `ranks`.

    Removes what killed processes left half written or half removed. Returns warnings: unsound checkpoints, and a
    changed runtime, which ends bit-identity. Raises NcsnxError, with nothing else changed, if no sound checkpoint is
    left.
    """
    unsound = _newest_sound(run, state, ranks)
    warnings = [
        f"checkpoint of step {step:,} is unsound ({why}); falling back to step {state.step:,}" for step, why in unsound
    ]
    if state.step > 0:
        warnings += ranks.first(lambda: _runtime_warnings(run, state))
    return warnings


def _newest_sound(run: Run, state: TrainingState, ranks: RankGroup) -> list[tuple[int, str]]:
    """Loads the newest sound checkpoint, if any, and reads no file twice; returns newer ones and their errors."""
    unsound: list[tuple[int, str]] = []
    for step in ranks.first(lambda: _steps_without_debris(run)):
        try:
            ranks.gather(partial(state.load, run.checkpoints / step_name(step)))
            ranks.first(lambda: _set_aside(run, unsound))
            return unsound
        except UnsoundError as error:
            unsound.append((step, error.message))
    ranks.first(lambda: require_beginning(run, unsound))
    return []


def _set_aside(run: Run, unsound: list[tuple[int, str]]) -> None:
    """Sets unsound checkpoints aside, so that retention doesn't keep them in place of sound ones."""
    for step, _ in unsound:
        if (folder := run.checkpoints / step_name(step)).exists():
            set_aside(folder)


def _steps_without_debris(run: Run) -> list[int]:
    """Steps of the checkpoints, newest first, once what killed processes left is removed."""
    remove_debris(run)
    return checkpoints(run)[::-1]


def record_start(
    run: Run,
    state: TrainingState,
    changes: list[Difference],
    origins: dict[str, str],
    note: str = "",
    code_folder: Path | None = None,
) -> None:
    """Records a start at the step of `state`: the changed values with their origins, and the code's git state."""
    recorded = {
        change.path: [shown(value) if value is ABSENT else value for value in (change.first, change.second)]
        for change in changes
    }
    runtime = state.runtime.facts()
    append_segment(run, from_step=state.step, runtime=runtime, changes=recorded, note=note, code_folder=code_folder)
    if changes or run.has_other_plugins():
        # the experiment last, so that the changes are found again after a kill before it
        write_document(run.origins_path, Origins(by_path=origins))
        run.update_experiment(state.experiment)


def _runtime_warnings(run: Run, state: TrainingState) -> list[str]:
    last, passes = last_training(run), {"accumulation": run.experiment().accumulation}
    before = {} if last is None else {**last.runtime, **last.versions, **passes}
    now = {**state.runtime.facts(), "torch": versions()["torch"], "accumulation": state.experiment.accumulation}
    changed = [
        f"{key} {shortened(printable(str(before[key])))} → {value}"
        for key, value in now.items()
        if key not in ("workers", "checkpointing") and before.get(key, value) != value
    ]
    if last is not None:
        plugins = {one.distribution: one.version for one in plugins_of(run.experiment())}
        earlier = {one.distribution: one.version for one in last.plugins}
        changed += [
            f"{name} {earlier[name]} → {version}"
            for name, version in plugins.items()
            if earlier.get(name, version) != version
        ]
    return [f"bit-identity with an uninterrupted run ends here: {', '.join(changed)}"] if changed else []
