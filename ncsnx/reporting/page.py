"""Renders a run as one HTML page without scripts and requests, and renews the page while the run trains."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Any

from markupsafe import Markup

from ncsnx.reporting import history, html, measurements
from ncsnx.reporting.run_facts import RunFacts
from ncsnx.runs.folder import Run
from ncsnx.storage.atomic import write_bytes
from ncsnx.training.observer import ForwardingObserver, TrainingObserver
from ncsnx.version import __version__

_SHARE = 0.01
"""Largest share of the training's time that renewals take, but for the last one."""

_PAGE = Markup("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{name}: ncsnx report</title>
<style>
{style}</style>
</head>
<body>
<h1>{name}</h1>
<nav><ul>
{links}</ul></nav>
<main>
{sections}</main>
<footer>
<p>Made by ncsnx {version} from the files of the run. Numbers compare only where their protocols agree.</p>
<p>Make it again: <code>{command}</code></p>
</footer>
</body>
</html>
""")


def write_report(run: Run) -> None:
    """Writes the page about a run into its folder. Raises NcsnxError."""
    write_bytes(run.report_path, report_page(run))


def report_page(run: Run) -> bytes:
    """The page about a run. Parts that it lacks are left out; files that can't be read become lines of the page."""
    facts = RunFacts.read(run)
    sections = {title: shown for title, parts in _sections(facts).items() if (shown := html.joined(parts))}
    if facts.problems:
        caption = "Files that could not be read, and results left out"
        lines = [(line,) for line in dict.fromkeys(facts.problems)]
        sections["What is not shown"] = html.table(caption, ("what",), lines)
    link = Markup('<li><a href="#{}">{}</a></li>\n')
    page = _PAGE.format(
        name=run.name,
        style=Markup(resources.files("ncsnx.reporting").joinpath("style.css").read_text("utf-8")),
        links=html.joined(link.format(html.identifier(title), title) for title in sections),
        sections=html.joined(html.section(title, part) for title, part in sections.items()),
        version=__version__,
        command=f"ncsnx report {run.typed}",
    )
    return page.encode("utf-8", "backslashreplace")  # names of folders may have bytes that aren't UTF-8


def _sections(facts: RunFacts) -> dict[str, Iterable[Markup]]:
    """The parts of the page by title."""
    return {
        "Summary": [history.summary(facts)],
        "Training": [html.beside(history.training_curves(facts), "plots")],
        "Samples while training": measurements.snapshots(facts),
        "Samples": measurements.samples(facts),
        "Scores": measurements.measured(facts, "fid"),
        "Held-out losses": measurements.measured(facts, "loss"),
        "Likelihoods": measurements.measured(facts, "likelihood"),
        "Samplers": measurements.measured(facts, "compare"),
        "Neighbours": measurements.neighbours(facts),
        "Tasks": measurements.tasks(facts),
        "History": history.starts(facts),
        "Configuration": history.configuration(facts),
    }


@contextmanager
def renewed_report(
    run: Run, observer: TrainingObserver, write: Callable[[Run], None] = write_report
) -> Iterator[TrainingObserver]:
    """The observer for a training whose page is renewed at checkpoints and, with the last files, at the end.

    A page takes less than a second; after one that took t seconds there is none for 100 t. One that can't be written is
    a warning of the observer, once.
    """
    renewing = _RenewingObserver(observer, run, write)
    try:
        yield renewing
    finally:
        renewing.renew()


class _RenewingObserver(ForwardingObserver):
    """Passes all events on, and renews the page after checkpoints."""

    def __init__(self, observer: TrainingObserver, run: Run, write: Callable[[Run], None]) -> None:
        super().__init__(observer)
        self._run, self._write = run, write
        self._not_before = 0.0
        self._has_warned = False

    def checkpoint(self, step: int, path: Any) -> None:
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
