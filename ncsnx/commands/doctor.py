"""`ncsnx doctor`: damaged and orphaned files of a run, and what can be done about them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import attrs

from ncsnx.commands.command import RUNS_PANEL, Command, as_function, command, option
from ncsnx.commands.groups import OfRun, name_or_path
from ncsnx.errors import NcsnxError, printable
from ncsnx.quantities import byte_size, counted
from ncsnx.results import Result
from ncsnx.spelling import parameter

if TYPE_CHECKING:
    from ncsnx.reporting.doctor import Examination, Finding
    from ncsnx.runs.folder import Run
    from ncsnx.work import Work


@command("doctor", panel=RUNS_PANEL, place=160)
@attrs.frozen(slots=False, kw_only=True, eq=False)
class Doctor(OfRun, Command["ExaminedRun"]):
    """Verify every hash of a run, and report damage.

    Reports what is damaged or orphaned, and what can be done about it. Without `repair` nothing is changed. Exits with
    0 for a sound run and with 1 otherwise.
    """

    repair: Annotated[bool, option("Repair")] = False
    """Remove what killed processes left, and set damaged checkpoints aside."""

    def opened(self) -> "Run":
        """The run, whose configuration may be missing. Raises UsageError, NcsnxError."""
        from ncsnx.runs.folder import Run, open_run

        return (
            self.run
            if isinstance(self.run, Run)
            else open_run(self.runs_folder(), name_or_path(self.run), needs_config=False)
        )

    def carry_out(self, work: "Work") -> "ExaminedRun":
        with work.at_once():
            from ncsnx.reporting import doctor
            from ncsnx.runs.writer_lock import writer_lock, writer_of

            run = self.opened()
            if not self.repair:
                return ExaminedRun(doctor.examine(run, work, writer_of(run.path)), self.repair)
        with writer_lock(run):
            return ExaminedRun(doctor.examine(run, work, repair=True), self.repair)


@attrs.frozen(repr=False)
class ExaminedRun(Result):
    """Findings about a run."""

    examination: "Examination"
    repaired: bool
    """Whether findings were repaired."""

    @property
    def findings(self) -> "Sequence[Finding]":
        """Problems of the run."""
        return self.examination.findings

    @property
    def is_sound(self) -> bool:
        """Whether nothing is damaged."""
        return self.examination.is_sound

    def shown(self) -> Sequence[str]:
        width = max((len(finding.kind) for finding in self.findings), default=0)
        return [  # file names in a run may hold control characters
            printable(f"{finding.kind:<{width}}  {self._place(finding)} {finding.what}; {_outcome(finding)}")
            for finding in self.findings
        ]

    def _place(self, finding: "Finding") -> str:
        path, run = finding.path, self.examination.run.path
        return str(path.relative_to(run)) if path.is_relative_to(run) and path != run else str(path)

    def closing(self) -> Sequence[str]:
        found = self.examination
        lines = [
            f"verified {counted(found.files, 'file')} ({byte_size(found.bytes)}) of "
            f"{counted(found.checkpoints, 'checkpoint')} and what was made from them"
        ]
        lines += [f"{found.run.path} is being written by {found.writer}"] if found.writer is not None else []
        lines += [self.verdict] if found.is_sound else []
        repairable = sum(finding.remedy is not None for finding in found.findings)
        if repairable and not self.repaired:
            lines.append(f"{parameter('repair')} can deal with {repairable:,} of them")
        return lines

    @property
    def verdict(self) -> str:
        """A sentence."""
        found, done = self.examination, sum(finding.repaired for finding in self.findings)
        left = counted(len(self.findings) - done, "finding")
        shown = f"{counted(done, 'finding')} repaired, {left} left" if self.repaired else left
        return f"{found.run.path} is {'sound' if found.is_sound else 'not sound'}: {shown}"

    def problem(self) -> NcsnxError | None:
        return None if self.is_sound else NcsnxError(self.verdict)

    def to_json(self) -> object:
        found = self.examination
        return {
            "run": str(found.run.path),
            "sound": found.is_sound,
            "writer": found.writer,
            "verified": {"checkpoints": found.checkpoints, "files": found.files, "bytes": found.bytes},
            "findings": [
                {
                    "kind": finding.kind,
                    "path": str(finding.path),
                    "what": finding.what,
                    "advice": finding.advice,
                    "repairable": finding.remedy is not None and not finding.repaired,
                    "repaired": finding.repaired,
                }
                for finding in found.findings
            ],
        }

    def heading(self) -> tuple[str, str]:
        return "doctor", self.verdict


def _outcome(finding: "Finding") -> str:
    return f"repaired: {finding.advice}" if finding.repaired else finding.advice


doctor = as_function(Doctor)
