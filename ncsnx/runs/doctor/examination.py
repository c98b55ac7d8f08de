"""The steps of an examination and of a repair."""

import attrs

from ncsnx.errors import NcsnxError
from ncsnx.runs.checkpoints.manifest import UnsoundError
from ncsnx.runs.checkpoints.pruning import CheckpointPruner
from ncsnx.runs.doctor.artifacts import (
    examine_comparisons,
    examine_exports,
    examine_neighbors,
    examine_samples,
    examine_snapshots,
    examine_sweeps,
)
from ncsnx.runs.doctor.checkpoint_examination import examine_checkpoints, total_bytes
from ncsnx.runs.doctor.examined import Examination
from ncsnx.runs.doctor.links import examine_hard_links
from ncsnx.runs.doctor.records import examine_places, examine_records, examine_runs_folder
from ncsnx.runs.folder import Run
from ncsnx.runs.names import step_name
from ncsnx.runs.resuming import CheckpointVerdict, resumption
from ncsnx.work import SILENT, Work, silent_progress

WORTH_SHOWING = 64
"""MiB of checkpoints from which an examination shows its progress: a second's work."""


def examine(run: Run, work: Work = SILENT, writer: str | None = None, *, repair: bool = False) -> Examination:
    """Examines a run. writer: the process that is writing it now, if any.

    repair: apply the findings' remedies; the caller holds the writer's lock. Otherwise nothing is changed. Raises
    Stopped.
    """
    if run.path.is_symlink():  # the run itself may be a link; what is in it may not
        run = Run(run.path.resolve())
    found = Examination(run, work, writer)
    if writer is not None:
        found.add("busy", run.path, f"is being written by {writer}", "repeat the command when that has ended")
    total = total_bytes(run) >> 20
    progress = work.progress if total >= WORTH_SHOWING else silent_progress
    with progress(f"verifying {run.name}", total=total, unit="MiB") as advance:
        found.advance = advance
        examine_records(found)
        examine_checkpoints(found)
        examine_samples(found)
        examine_exports(found)
    examine_snapshots(found)
    examine_sweeps(found)
    examine_comparisons(found)
    examine_neighbors(found)
    examine_places(found)
    examine_hard_links(found)
    examine_runs_folder(found)
    _examine_retention(found)
    _examine_resumption(found, found.verdicts)
    if repair:
        _repair(found)
    return found


def _repair(found: Examination) -> None:
    """Applies the findings' remedies. A finding whose remedy fails stays, with the reason."""
    for number, finding in enumerate(found.findings):
        if finding.remedy is None:
            continue
        found.work.check_stop()
        try:
            remark = finding.remedy()
        except (NcsnxError, OSError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            found.findings[number] = attrs.evolve(finding, advice=f"cannot be repaired: {why}", remedy=None)
        else:
            found.findings[number] = attrs.evolve(finding, advice=remark or "removed", repaired=True)
    # training can't fall back to a checkpoint that was moved aside
    gone = {finding.path for finding in found.findings if finding.repaired and finding.kind == "unsound"}
    found.findings = [finding for finding in found.findings if finding.kind != "untrainable"]
    verdicts = [verdict for verdict in found.verdicts if found.run.checkpoints / step_name(verdict[0]) not in gone]
    _examine_resumption(found, verdicts)


def _examine_retention(found: Examination) -> None:
    """Finds checkpoints that retention should have removed already: a disk was full, or the rules are new."""
    if found.writer is not None:
        return
    try:
        # only the plan is needed, so nothing is hashed again
        due = CheckpointPruner(found.run, found.run.experiment()).foreseen(_unsound_steps(found))
    except NcsnxError:
        return  # the problem is a separate finding
    if due is not None:
        found.add(
            "due",
            found.run.checkpoints,
            f"holds more than retention keeps: {due}",
            "nothing to do: the next `ncsnx train` removes that or says why it cannot",
        )


def _unsound_steps(found: Examination) -> set[int]:
    return {step for step, verdict in found.verdicts if isinstance(verdict, UnsoundError)}


def _examine_resumption(found: Examination, verdicts: list[CheckpointVerdict]) -> None:
    """Whether training can resume, by the rule that training itself follows."""
    run = found.run
    if not found.is_readable or found.writer is not None:  # the writer's retention may have removed examined files
        return
    try:
        resumed = resumption(run, verdicts)
    except NcsnxError:
        return  # an unreadable checkpoint is a separate finding
    if resumed.refusal is not None:
        found.add("untrainable", run.path, f"cannot be trained further: {resumed.refusal}", resumed.advice)
