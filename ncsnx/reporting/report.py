"""Renders a run as one HTML page without scripts and requests, and renews the page while the run trains."""

import json
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from ncsnx.inverse.posterior.calibration import CALIBRATION_TITLES, calibration_in_words, calibration_rows
from ncsnx.inverse.task_record import CALIBRATION_FILE
from ncsnx.reporting import report_parts
from ncsnx.reporting.run_facts import RunFacts
from ncsnx.runs.folder import Run
from ncsnx.storage.atomic import write_bytes
from ncsnx.training.observer import TrainingObserver
from ncsnx.version import __version__

_SHARE = 0.01
"""Largest share of the training's time that renewals take, but for the last one."""


def write_report(run: Run) -> None:
    """Writes the page about a run into its folder. Raises NcsnxError."""
    write_bytes(run.report_path, report_page(run))


def report_page(run: Run) -> bytes:
    """The page about a run. Parts that it lacks are left out; files that can't be read become lines of the page."""
    page = _template().render(facts=RunFacts.read(run))
    return page.encode("utf-8", "backslashreplace")  # names of folders may have bytes that aren't UTF-8


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("ncsnx.reporting", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        extensions=["jinja2.ext.do"],
    )
    environment.filters["as_command"] = _as_command
    environment.filters["identifier"] = lambda title: title.lower().replace(" ", "-")
    return environment.get_template(
        "report.html.j2",
        globals={
            "parts": report_parts,
            "calibration_titles": CALIBRATION_TITLES,
            "calibration_rows": calibration_rows,
            "calibration_in_words": calibration_in_words,
            "calibration_file": CALIBRATION_FILE,
            "dumps": json.dumps,
            "version": __version__,
        },
    )


def _as_command(recorded: str) -> str:
    """A recorded command line that begins with `ncsnx`, wherever that was installed."""
    program, _, rest = recorded.partition(" ")
    if Path(program).name in ("ncsnx", "__main__.py"):
        return f"ncsnx {rest}".rstrip()
    return recorded


class RenewedReport:
    """The observer of a training, whose page it renews at checkpoints and, with the last files, when its block ends.

    A page takes less than a second; after one that took t seconds there is none for 100 t. One that can't be written is
    a warning, once.
    """

    def __init__(self, run: Run, observer: TrainingObserver, write: Callable[[Run], None] = write_report) -> None:
        self._observer, self._run, self._write = observer, run, write
        self._not_before = 0.0
        self._has_warned = False

    def __getattr__(self, event: str) -> Any:
        return getattr(self._observer, event)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        self.renew()

    def checkpoint(self, step: int, path: Path) -> None:
        self._observer.checkpoint(step, path)
        if time.monotonic() >= self._not_before:
            self.renew()

    def renew(self) -> None:
        begun = time.monotonic()
        try:
            self._write(self._run)
        except Exception as error:  # whatever is wrong with the page, the training matters more
            if not self._has_warned:
                self._has_warned = True
                self._observer.warning(
                    f"no report: {str(error) or type(error).__name__}; training continues without it"
                )
        now = time.monotonic()
        self._not_before = now + (now - begun) / _SHARE
