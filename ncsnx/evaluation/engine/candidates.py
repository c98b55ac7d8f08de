"""Candidates of a sweep: checkpoints, identified by the sha256 of their weights, or ensembles of checkpoints."""

from collections.abc import Sequence

import attrs

from ncsnx.config.canonical import digest
from ncsnx.config.experiment import Experiment
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.quantities import counted
from ncsnx.runs.folder import Run
from ncsnx.runs.manifest import UnsoundError, checkpoints, read_manifest
from ncsnx.runs.names import step_name
from ncsnx.runtime import Runtime
from ncsnx.sampling.score_model import ScoreModel, load, weights_of
from ncsnx.spelling import parameter


@attrs.frozen
class Candidate:
    """A checkpoint or ensemble that gets one row in a sweep."""

    step: int
    members: tuple[int, ...]
    """Steps whose scores are averaged, ascending; only `step` without an ensemble."""
    weights_sha256: str
    """sha256 of the weights file; for an ensemble, a digest of the members' sha256."""


@attrs.frozen
class FoundCandidates:
    """The candidates of the requested steps, and the steps that have none."""

    candidates: tuple[Candidate, ...]
    unsound: tuple[str, ...] = ()
    """A message for each damaged checkpoint."""
    without_enough_members: tuple[int, ...] = ()
    """Steps with too few checkpoints up to them for the ensemble."""


def find_candidates(run: Run, experiment: Experiment, steps: Sequence[int], ensemble: int = 1) -> FoundCandidates:
    """The candidates of `steps`: each checkpoint, or with `ensemble` = K > 1 the last K checkpoints up to each.

    The published code averages the scores of checkpoints to evaluate runs without EMA. Raises UsageError for an
    ensemble of a run with EMA, which the published code refuses too, and if no step has K checkpoints up to it.
    """
    if ensemble > 1 and experiment.ema is not None:
        raise UsageError(
            f"{parameter('ensemble')} is for runs without EMA, and the weights of {run.name!r} are already averaged "
            f"(ema.rate={experiment.ema.rate}); leave it out"
        )
    available = checkpoints(run)
    candidates, unsound, without = [], [], []
    for step in steps:
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
    if not candidates:
        _refuse_none(run, ensemble, unsound, available)
    return FoundCandidates(tuple(candidates), tuple(unsound), tuple(without))


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


def _refuse_none(run: Run, ensemble: int, unsound: Sequence[str], available: Sequence[int]) -> None:
    if unsound:
        raise NcsnxError(f"every checkpoint in the range is damaged: {'; '.join(unsound)}")
    raise UsageError(
        f"{parameter('ensemble')} {ensemble}: no step in the range has {counted(ensemble, 'checkpoint')} up to it; run "
        f"{run.name!r} has {len(available):,}"
    )
