"""Candidates of a sweep: checkpoints, identified by the sha256 of their weights, or ensembles of checkpoints."""

import attrs

from ncsnx.config.codec import digest
from ncsnx.config.experiment import Experiment
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.quantities import counted
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import UnsoundError, checkpoints, read_manifest
from ncsnx.runs.names import step_name
from ncsnx.runs.score_files import require_best
from ncsnx.runs.selection import Selection
from ncsnx.runtime import Runtime
from ncsnx.sampling.score_model import ScoreModel, load, weights_of
from ncsnx.spelling import parameter
from ncsnx.work import Work


@attrs.frozen
class Candidate:
    """A checkpoint or ensemble that gets one row in a sweep."""

    step: int
    members: tuple[int, ...]
    """Steps whose scores are averaged, ascending; only `step` without an ensemble."""
    weights_sha256: str
    """sha256 of the weights file; for an ensemble, a digest of the members' sha256."""


def choose(run: Run, selection: Selection, work: Work, ensemble: int = 1) -> tuple[tuple[Candidate, ...], list[str]]:
    """The candidates of a selection, and a line for each damaged checkpoint. Warns of everything left out.

    Each checkpoint is one, or with `ensemble` = K > 1 the last K checkpoints up to each, whose scores the published
    code averages to evaluate runs without EMA. Raises UsageError for an ensemble of a run with EMA, which the published
    code refuses too, and if no step has K checkpoints up to it.
    """
    experiment = run.experiment()
    if ensemble > 1 and experiment.ema is not None:
        raise UsageError(
            f"{parameter('ensemble')} is for runs without EMA, and the weights of {run.name!r} are already averaged "
            f"(ema.rate={experiment.ema.rate}); leave it out"
        )
    if selection.text == "best":
        work.info(f"best: {require_best(run)}")
    if selection.remark:
        work.warning(selection.remark)
    available = checkpoints(run)
    candidates, unsound, without = [], [], []
    for step in selection.steps:
        members = tuple([other for other in available if other <= step][-ensemble:])
        if len(members) < ensemble:
            without.append(step)
            continue
        try:
            hashes = [_weights_sha256(run, experiment, member) for member in members]
        except UnsoundError as error:
            unsound.append(str(error))
            continue
        candidates.append(Candidate(step, members, hashes[0] if ensemble == 1 else digest(hashes)))
    if not candidates and unsound:
        raise NcsnxError(f"every checkpoint in the range is damaged: {'; '.join(unsound)}")
    if not candidates:
        raise UsageError(
            f"{parameter('ensemble')} {ensemble}: no step in the range has {counted(ensemble, 'checkpoint')} up to it; "
            f"run {run.name!r} has {len(available):,}"
        )
    if without:
        steps = ", ".join(f"{step:,}" for step in without)
        work.warning(f"left out, since fewer than {counted(ensemble, 'checkpoint')} lead up to them: {steps}")
    for line in unsound:
        work.warning(f"left out: {line}")
    return tuple(candidates), unsound


def load_member(run: Run, step: int, runtime: Runtime) -> ScoreModel:
    """The model of a checkpoint. Raises UnsoundError if it is damaged, or was removed since the sweep began."""
    try:
        return load(run, step, runtime=runtime)
    except UsageError as error:
        raise UnsoundError("it was removed in the meantime, perhaps by the retention of a training run") from error


def _weights_sha256(run: Run, experiment: Experiment, step: int) -> str:
    folder = run.checkpoints / step_name(step)
    name = f"{weights_of(experiment)[1]}.safetensors"
    manifest = read_manifest(folder)
    if name not in manifest.files:
        raise UnsoundError(f"{folder / name} is missing")
    return manifest.files[name].sha256
