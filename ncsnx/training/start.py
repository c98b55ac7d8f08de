"""How a training begins: a new run, or an old one taken up where it stands.

A run is taken up if its identity and the fingerprint of its data are the same; name, steps, cadence, retention, sampler
and note may have changed, and the change is recorded.
"""

from typing import Any

from ncsnx.config.checks import printable, shortened
from ncsnx.config.codec import identity
from ncsnx.config.differences import ABSENT, Difference, differences, shown
from ncsnx.config.experiment import Experiment
from ncsnx.errors import NcsnxError
from ncsnx.runs.checkpoints.leftovers import remove_debris
from ncsnx.runs.checkpoints.manifest import OPTIMIZER
from ncsnx.runs.folder import Run
from ncsnx.runs.names import step_name
from ncsnx.runs.origins import Origins
from ncsnx.runs.resuming import resumption
from ncsnx.runs.segments import append_segment, read_segments, versions
from ncsnx.runtime import Runtime
from ncsnx.spelling import A_NAME, argument
from ncsnx.storage.documents.document_files import write_document
from ncsnx.training.training_state import TrainingState


def require_same_identity(run: Run, experiment: Experiment, fingerprint: str | None) -> list[Difference]:
    """What else has changed, if the run may go on with `experiment`. Raises NcsnxError with the differences if not.

    The fingerprint of the data counts where both have one: a run that was only imported has none yet, and None is given
    where no data is at hand.
    """
    recorded = run.experiment()
    changes = differences(recorded, experiment)
    if identity(recorded) != identity(experiment):
        listed = "; ".join(str(change) for change in changes if change.identity)
        raise NcsnxError(
            f"{run.path} is another experiment's run, since this changes what is trained: {listed}; "
            f"start a run of its own with {argument('name', A_NAME)}, such as "
            f"{argument('name', f'{experiment.name}-2')}"
        )
    data = run.data_fingerprint()
    if data is not None and fingerprint is not None and data != fingerprint:
        raise NcsnxError(
            f"{run.path} was trained on other data (fingerprint {data[:12]}…, now "
            f"{fingerprint[:12]}…); bring the data back, or start a run of its own with {argument('name', A_NAME)}"
        )
    return [change for change in changes if not change.identity]


def begin(
    run: Run,
    state: TrainingState,
    changes: list[Difference],
    origins: dict[str, str],
    runtime: Runtime,
    note: str,
) -> list[str]:
    """Brings `state` to the run's newest sound checkpoint, if it has one. The caller holds the lock.

    Removes what a killed process left half written or half removed, and records the segment, and changes with where
    their values come from. Returns warnings: checkpoints that are unsound or have lost their optimizer's state, and a
    runtime under which bits will differ. Raises NcsnxError, having changed nothing else, where retention removed the
    optimizer's state of the newest sound checkpoint, and where there is none any more.
    """
    remove_debris(run)
    found = resumption(run)
    if found.refusal is not None:
        raise NcsnxError(f"{found.refusal}; {found.way_out}")
    step = found.step
    warnings: list[str] = []
    if step is not None:
        state.load(run.checkpoints / step_name(step))
        warnings += [
            f"checkpoint of step {bad:,} is unsound ({why}); falling back to step {step:,}"
            for bad, why in found.unsound
        ]
        warnings += [
            f"checkpoint of step {bad:,} cannot be trained on ({OPTIMIZER} is missing); falling back to step {step:,}"
            for bad in found.untrainable
        ]
        warnings += _runtime_warnings(run, runtime)
    recorded = {change.path: [_as_json(change.first), _as_json(change.second)] for change in changes}
    append_segment(run, from_step=state.step, runtime=runtime.facts(), changes=recorded, note=note)
    if changes:  # the experiment last: whoever is killed before it finds the same changes again
        write_document(run.origins_path, Origins(by_path=origins))
        run.update_experiment(state.experiment)
    return warnings


def _as_json(value: Any) -> Any:
    return shown(value) if value is ABSENT else value


def _runtime_warnings(run: Run, runtime: Runtime) -> list[str]:
    trained = [segment for segment in read_segments(run) if segment.imported is None]
    before = {**trained[-1].runtime, **trained[-1].versions} if trained else {}
    changed = [
        f"{key} {shortened(printable(str(before[key])))} → {value}"
        for key, value in {**runtime.facts(), "torch": versions()["torch"]}.items()
        if key != "workers" and before.get(key, value) != value
    ]
    return [f"bit-identity with an uninterrupted run ends here: {', '.join(changed)}"] if changed else []
