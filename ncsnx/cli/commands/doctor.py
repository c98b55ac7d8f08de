"""`ncsnx doctor`: damaged, orphaned and unknown files of a run, and what can be done about them."""

from typing import TYPE_CHECKING, Annotated

import typer

from ncsnx.cli import options
from ncsnx.cli.command_registry import RUNS_PANEL, command
from ncsnx.cli.session import FROM_THE_START, session
from ncsnx.console.working import work_of
from ncsnx.quantities import byte_size, counted

if TYPE_CHECKING:
    from pathlib import Path

    from ncsnx.console.messages import Messages
    from ncsnx.runs.doctor import Examination, Finding
    from ncsnx.runs.folder import Run
    from ncsnx.work import Work


@command("doctor", panel=RUNS_PANEL, place=160)
def doctor_command(
    run: options.RunName,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Remove what killed processes left, and set damaged checkpoints aside.",
            rich_help_panel="Repair",
        ),
    ] = False,
    runs: options.Runs = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Verify every hash of a run, and report damage.

    Reports what is damaged, orphaned or unknown, and what can be done about it. Without --repair nothing is changed.
    Exits with 0 for a sound run and with 1 otherwise. Notes, such as files that ncsnx doesn't know, leave a run sound.
    """
    with session(FROM_THE_START, verbose=verbose, quiet=quiet) as messages:
        from ncsnx.runs.folder import open_run
        from ncsnx.runs.names import runs_folder
        from ncsnx.stopping import StopRequest

        place = open_run(runs_folder(runs), run, needs_config=False)
        with StopRequest() as stop:
            found = _examined(place, work_of(messages, stop), repair)
        if json:
            messages.json(_as_json(found))
        else:
            _show(messages, found)
        _say_in_the_end(messages, found, repair)
        if not found.is_sound:
            raise typer.Exit(1)


def _examined(place: "Run", work: "Work", repair: bool) -> "Examination":
    from ncsnx.runs import doctor
    from ncsnx.runs.writer_lock import writer_lock, writer_of

    if not repair:
        return doctor.examine(place, work, writer_of(place.path))
    with writer_lock(place):
        return doctor.examine(place, work, repair=True)


def _as_json(found: "Examination") -> dict[str, object]:
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
                "note": finding.is_note,
                "repairable": finding.remedy is not None and not finding.repaired,
                "repaired": finding.repaired,
            }
            for finding in found.findings
        ],
    }


def _show(messages: "Messages", found: "Examination") -> None:
    """Writes a line for each finding, notes last."""
    from ncsnx.console.messages import visible

    ordered = sorted(found.findings, key=lambda finding: finding.is_note)
    width = max((len(_label(finding)) for finding in ordered), default=0)
    for finding in ordered:
        where = _relative(finding.path, found.run.path)
        line = f"{_label(finding):<{width}}  {where} {finding.what}; {_outcome(finding)}"
        messages.data(visible(line))  # file names in a run may hold control characters


def _label(finding: "Finding") -> str:
    return f"note: {finding.kind}" if finding.is_note else finding.kind


def _outcome(finding: "Finding") -> str:
    return f"repaired: {finding.advice}" if finding.repaired else finding.advice


def _relative(path: "Path", run: "Path") -> str:
    return str(path.relative_to(run)) if path.is_relative_to(run) and path != run else str(path)


def _say_in_the_end(messages: "Messages", found: "Examination", repair: bool) -> None:
    messages.info(
        f"verified {counted(found.files, 'file')} ({byte_size(found.bytes)}) of "
        f"{counted(found.checkpoints, 'checkpoint')} and what was made from them"
    )
    repaired = sum(finding.repaired for finding in found.findings)
    wrong = sum(not finding.is_note and not finding.repaired for finding in found.findings)
    notes = sum(finding.is_note and not finding.repaired for finding in found.findings)
    parts = [f"{counted(repaired, 'finding')} repaired"] if repair else []
    parts += [f"{counted(wrong, 'finding')} left" if repair else counted(wrong, "finding"), counted(notes, "note")]
    messages.info(f"{found.run.path} is {'sound' if found.is_sound else 'not sound'}: {', '.join(parts)}")
    repairable = sum(finding.remedy is not None for finding in found.findings)
    if repairable and not repair:
        messages.info(f"--repair can deal with {repairable:,} of them")
