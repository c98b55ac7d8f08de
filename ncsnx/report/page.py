"""Renders runs as one HTML page that loads and runs nothing; its own security policy forbids both."""

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from ncsnx.config.checks import printable
from ncsnx.report.embedded_pictures import PictureBudget, omitted_words
from ncsnx.report.history_sections import (
    columns,
    configuration_blocks,
    curves_section,
    differences_section,
    doctor_blocks,
    history_blocks,
    levels_blocks,
    summary_section,
)
from ncsnx.report.image_sections import sample_blocks, snapshot_blocks
from ncsnx.report.measured_sections import comparison_blocks, neighbor_blocks, score_blocks
from ncsnx.report.page_blocks import LONGEST_TEXT, Paragraph, Section, Table
from ncsnx.report.run_facts import Problems, RunFacts, read_facts
from ncsnx.runs.doctor import Examination
from ncsnx.runs.folder import Run
from ncsnx.version import __version__

if TYPE_CHECKING:
    from jinja2 import Template

MOST_RUNS = 8


def report_page(runs: Sequence[Run], examinations: Sequence[Examination] = ()) -> str:
    """The page about runs, the same for the same folders. examinations: the doctor's, of some of the runs.

    Files that can't be read become lines of the page.
    """
    problems, budget = Problems(), PictureBudget()
    facts = [read_facts(run, problems) for run in runs]
    sections = [*_sections(facts, examinations, problems, budget), _left_out(problems, budget)]
    names = ", ".join(one.name for one in facts)
    style = resources.files("ncsnx.report").joinpath("templates", "style.css").read_text("utf-8")
    return _template().render(
        title=f"{names}: ncsnx report",
        heading=names,
        kind="run" if len(facts) == 1 else "runs",
        sections=[section for section in sections if not section.is_empty],
        style=style,
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii"),
        version=__version__,
        reproduce=" ".join(["ncsnx report", *(one.run.typed for one in facts)]),
    )


def _sections(
    runs: Sequence[RunFacts], examinations: Sequence[Examination], problems: Problems, budget: PictureBudget
) -> list[Section]:
    doctors = {found.run.path: found for found in examinations}
    place = {one.run.path: number for number, one in enumerate(runs)}
    return [
        differences_section(runs),
        summary_section(runs),
        curves_section(runs),
        Section("Loss per level", "levels", columns=columns(runs, levels_blocks)),
        Section(
            "Samples while training",
            "snapshots",
            columns=columns(runs, lambda one: snapshot_blocks(one, place[one.run.path], problems, budget)),
        ),
        Section("Samples", "samples", columns=columns(runs, lambda one: sample_blocks(one, False, problems, budget))),
        Section("Scores", "scores", columns=columns(runs, lambda one: score_blocks(one, "fid", problems))),
        Section("Held-out losses", "losses", columns=columns(runs, lambda one: score_blocks(one, "loss", problems))),
        Section(
            "Likelihoods", "likelihoods", columns=columns(runs, lambda one: score_blocks(one, "likelihood", problems))
        ),
        Section("Samplers", "samplers", columns=columns(runs, lambda one: comparison_blocks(one, problems))),
        Section("Neighbours", "neighbours", columns=columns(runs, lambda one: neighbor_blocks(one, problems, budget))),
        Section("Tasks", "tasks", columns=columns(runs, lambda one: sample_blocks(one, True, problems, budget))),
        Section(
            "Verification",
            "verification",
            columns=columns(runs, lambda one: doctor_blocks(doctors[one.run.path]) if one.run.path in doctors else ()),
        ),
        Section("History", "history", columns=columns(runs, history_blocks)),
        Section("Configuration", "configuration", columns=columns(runs, configuration_blocks)),
    ]


def _left_out(problems: Problems, budget: PictureBudget) -> Section:
    omitted = omitted_words(budget)
    lines = tuple((line,) for line in dict.fromkeys(problems.lines))
    return Section(
        "What is not shown",
        "left-out",
        (
            *((Paragraph(omitted),) if omitted else ()),
            *((Table("Files that could not be read, and results left out", ("what",), lines),) if lines else ()),
        ),
    )


@cache
def _template() -> "Template":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ncsnx.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_plain,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2")


def _plain(value: Any) -> Any:
    """Text with unprintable characters escaped, so that none can hide, reorder or break what is beside it."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    text = value if len(value) <= LONGEST_TEXT or value.startswith("data:image/") else f"{value[:LONGEST_TEXT]}…"
    return "\n".join(printable(line) for line in text.split("\n"))
