"""The parts of a page: sections of paragraphs, tables, charts, pictures and commands, each with its template."""

from typing import ClassVar

import attrs

from ncsnx.report.chart import Chart
from ncsnx.report.embedded_pictures import EmbeddedPicture

LONGEST_TEXT = 10_000
"""Most characters of one text of the page. The paths of a chart, which hold numbers only, are not cut."""


@attrs.frozen
class Paragraph:
    """A paragraph of plain text."""

    template: ClassVar[str] = "paragraph.html.j2"
    text: str


@attrs.frozen
class CommandLines:
    """Command lines to copy, and what they do."""

    template: ClassVar[str] = "commands.html.j2"
    label: str
    lines: tuple[str, ...]


@attrs.frozen
class Table:
    """A table whose first column names its rows."""

    template: ClassVar[str] = "table.html.j2"
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@attrs.frozen
class ChartFigure:
    """A chart with its legend."""

    template: ClassVar[str] = "chart.html.j2"
    chart: Chart


@attrs.frozen
class PictureFigure:
    """A picture with a caption."""

    template: ClassVar[str] = "picture.html.j2"
    picture: EmbeddedPicture
    caption: str


@attrs.frozen
class Frame:
    """A picture of a slider."""

    label: str
    identifier: str
    """Unique in the page."""
    picture: EmbeddedPicture
    caption: str
    checked: tuple[str, ...] = ()
    """("checked",) for the picture that is shown at first."""


@attrs.frozen
class Slider:
    """Pictures of which one is shown: a group of radio buttons, which needs no script."""

    template: ClassVar[str] = "slider.html.j2"
    legend: str
    name: str
    """Unique in the page."""
    frames: tuple[Frame, ...]


@attrs.frozen
class Details:
    """Long text that is shown on request, and when printed."""

    template: ClassVar[str] = "details.html.j2"
    summary: str
    text: str


Block = Paragraph | CommandLines | Table | ChartFigure | PictureFigure | Slider | Details


@attrs.frozen
class RunColumn:
    """A run's part of a section."""

    headings: tuple[str, ...]
    """(name of the run,), or () in the page of a single run."""
    blocks: tuple[Block, ...]


@attrs.frozen
class Section:
    """A part of the page under a heading."""

    title: str
    identifier: str
    shared: tuple[Block, ...] = ()
    """Blocks about all runs."""
    columns: tuple[RunColumn, ...] = ()
    """Columns of the runs that have something to show."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show, so that the section is left out."""
        return not self.shared and not self.columns
