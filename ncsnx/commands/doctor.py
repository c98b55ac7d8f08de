"""`ncsnx doctor`: damaged and orphaned files of a run, and what can be done about them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import attrs

from ncsnx.commands.command import Command, Panel, as_function, command
from ncsnx.commands.groups import OfRun
from ncsnx.errors import NcsnxError, printable
from ncsnx.quantities import byte_size, counted
from ncsnx.results import Result

if TYPE_CHECKING:
    from ncsnx.reporting.doctor import Examination, Finding
    from ncsnx.work import Work


@command("doctor", panel=Panel.RUNS, order=160)
@attrs.frozen(slots=False, kw_only=True, eq=False)
class Doctor(OfRun, Command["ExaminedRun"]):
    """Verify every hash of a run, and report damage.

    Reports what is damaged or orphaned, and what can be done about it. Nothing is changed. Exits with 0 for a sound run
    and with 1 otherwise.
    """

    needs_config: ClassVar = False

    def carry_out(self, work: "Work") -> "ExaminedRun":
        with work.interruptible():
            from ncsnx.reporting import doctor
            from ncsnx.runs.writer_lock import writer_of

            run = self.opened()
            return ExaminedRun(doctor.examine(run, work, writer_of(run.path)))


@attrs.frozen(repr=False)
class ExaminedRun(Result):
    """Findings about a run."""

    examination: "Examination"

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
            printable(f"{finding.kind:<{width}}  {self._place(finding)} {finding.what}; {finding.advice}")
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
        return [*lines, self.verdict] if found.is_sound else lines

    @property
    def verdict(self) -> str:
        """A sentence."""
        state = "sound" if self.is_sound else "not sound"
        return f"{self.examination.run.path} is {state}: {counted(len(self.findings), 'finding')}"

    def problem(self) -> NcsnxError | None:
        return None if self.is_sound else NcsnxError(self.verdict)

    def to_json(self) -> object:
        found = self.examination
        return {
            "run": str(found.run.path),
            "sound": found.is_sound,
            "writer": found.writer,
            "verified": {"checkpoints": found.checkpoints, "files": found.files, "bytes": found.bytes},
            "findings": [{**attrs.asdict(finding), "path": str(finding.path)} for finding in found.findings],
        }

    def heading(self) -> tuple[str, str]:
        return "doctor", self.verdict


doctor = as_function(Doctor)
