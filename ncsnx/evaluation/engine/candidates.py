"""What a sweep measures: checkpoints, told apart by the sha256 of their weights, or ensembles of them."""

from collections.abc import Sequence

import attrs

from ncsnx.config.canonical import digest
from ncsnx.config.experiment import Experiment
from ncsnx.errors import NcsnxError, UsageError
from ncsnx.runs.checkpoints.manifest import UnsoundError, checkpoints, read_manifest
from ncsnx.runs.folder import Run
from ncsnx.runs.names import step_name
from ncsnx.runtime import Runtime
from ncsnx.sampling.score_model import ScoreModel, load, weights_of
from ncsnx.spelling import parameter


@attrs.frozen
class Candidate:
    """One row of a sweep."""

    step: int
    members: tuple[int, ...]
    """The steps whose scores are averaged, ascending; `step` alone outside an ensemble."""
    weights_sha256: str
    """Of the file of the weights; in an ensemble a digest of those of all members."""


@attrs.frozen
class FoundCandidates:
    """The candidates of some steps, and what stands in the way of the others."""

    candidates: tuple[Candidate, ...]
    unsound: tuple[str, ...] = ()
    """One line for each checkpoint that is damaged."""
    without_enough_members: tuple[int, ...] = ()
    """Steps with fewer checkpoints up to them than an ensemble needs."""


def find_candidates(run: Run, experiment: Experiment, steps: Sequence[int], ensemble: int = 1) -> FoundCandidates:
    """The candidates of `steps`: each checkpoint, or with `ensemble` = K > 1 the last K up to each.

    Averaging the scores of checkpoints is how the published code evaluates runs without EMA. Raises UsageError for an
    ensemble of a run with EMA (as there), and where no step has K checkpoints up to it.
    """
    if ensemble > 1 and experiment.ema is not None:
        raise UsageError(
            f"{parameter('ensemble')} is for runs without EMA, and {run.name!r} has one (ema.rate="
            f"{experiment.ema.rate}): its weights are averaged already; leave {parameter('ensemble')} out"
        )
    there = checkpoints(run)
    candidates, unsound, without = [], [], []
    for step in steps:
        members = tuple([other for other in there if other <= step][-ensemble:])
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
        _refuse_none(run, ensemble, unsound, there)
    return FoundCandidates(tuple(candidates), tuple(unsound), tuple(without))


def load_member(run: Run, step: int, runtime: Runtime) -> ScoreModel:
    """The model of a checkpoint that was there when the sweep began. Raises UnsoundError also if it is gone by now."""
    try:
        return load(run, step, runtime=runtime)
    except UsageError as error:
        raise UnsoundError("it was removed meanwhile, by the retention of a training perhaps") from error


def _weights_sha256(run: Run, experiment: Experiment, step: int) -> str:
    folder = run.checkpoints / step_name(step)
    name = f"{weights_of(experiment)[1]}.safetensors"
    manifest = read_manifest(folder)
    if name not in manifest.files:
        raise UnsoundError(f"{folder / name} is not there")
    return manifest.files[name].sha256


def _refuse_none(run: Run, ensemble: int, unsound: Sequence[str], there: Sequence[int]) -> None:
    if unsound:
        raise NcsnxError(f"no checkpoint of the range is sound: {'; '.join(unsound)}")
    raise UsageError(
        f"{parameter('ensemble')} {ensemble}: no checkpoint of the range has {ensemble} up to it; run {run.name!r} has "
        f"{len(there)}"
    )
