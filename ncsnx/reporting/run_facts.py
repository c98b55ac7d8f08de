"""Facts about a run from its folder; a file that can't be read becomes a line in place of its facts.

Pictures, curves that are drawn and PNGs of the run, are addresses that hold their content.
"""

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import attrs
from PIL import Image

from ncsnx import bounded_reads
from ncsnx.config.codec import identity
from ncsnx.config.pretrained import Declared
from ncsnx.errors import NcsnxError
from ncsnx.evaluation.plots import scale_values, style
from ncsnx.runs.folder import Run, read_origins
from ncsnx.runs.ledger import Ledger, Series
from ncsnx.runs.manifest import checkpoints
from ncsnx.runs.metrics_log import MetricsLog
from ncsnx.runs.segments import Segment, read_segments
from ncsnx.space import Space
from ncsnx.storage.documents import read_document

T = TypeVar("T")
Curve = Sequence[tuple[float, float]]
"""Points (x, y) of finite numbers."""
Style = Literal["images", "plot"]

_LARGEST_PICTURE = 2**26
_MOST_FOLDERS = 4
"""Most results of one kind that are shown, the newest ones."""


@attrs.define
class RunFacts:
    """A run with its records, as far as they can be read."""

    run: Run
    problems: list[str] = attrs.field(factory=list)
    """Lines about files that can't be read, and about results that are left out."""
    declared: Declared | None = None
    space: Space | None = None
    data_fingerprint: str | None = None
    origins: dict[str, str] = attrs.field(factory=dict)
    segments: list[Segment] = attrs.field(factory=list)
    metrics: list[dict[str, Any]] = attrs.field(factory=list)
    """Records in the file's order."""
    steps: list[int] = attrs.field(factory=list)
    """Steps of the checkpoints, ascending."""
    ledger: Ledger = attrs.field(default=attrs.Factory(lambda self: Ledger(self.run), takes_self=True))

    @classmethod
    def read(cls, run: Run) -> "RunFacts":
        """Reads a run's records."""
        facts = cls(run)
        facts.declared = facts.tried(run.declared, None)
        facts.space = facts.tried(run.space, None) if facts.declared else None
        facts.data_fingerprint = facts.tried(run.data_fingerprint, None) if facts.declared else None
        facts.origins = facts.tried(lambda: read_origins(run.origins_path), {})
        facts.segments = facts.tried(lambda: read_segments(run), [])
        records: list[dict[str, Any]] = facts.tried(MetricsLog(run).read, [])
        facts.metrics = [record for record in records if isinstance(record.get("step"), int)]
        facts.steps = facts.tried(lambda: checkpoints(run), [])
        facts.ledger = facts.tried(lambda: Ledger.read(run), facts.ledger)
        facts.ledger.warn(facts.problems.append)
        return facts

    @property
    def identity(self) -> str:
        """Identity of the model; empty if its configuration can't be read."""
        return "" if self.declared is None else identity(self.declared)

    def tried(self, read: Callable[[], T], otherwise: T) -> T:
        """The result of `read`; `otherwise`, and a line, if it raises NcsnxError or OSError."""
        try:
            return read()
        except OSError as error:
            self.problems.append(f"{error.filename or 'a file'}: {error.strerror or error}")
        except NcsnxError as error:
            self.problems.append(str(error))
        return otherwise

    def document(self, path: Path, kind: type[T]) -> T | None:
        """The document in a file; None if it is missing, and also, with a line, if it can't be read."""
        return (
            self.tried(lambda: read_document(path, kind, bounded_reads.RECORDS_LIMIT), None) if path.exists() else None
        )

    def picture(self, path: Path, style: Style = "images") -> str:
        """The picture in a PNG as a data URI; empty if it is missing, and also, with a line, if it can't be read."""
        if not path.exists():
            return ""
        try:
            return address(bounded_reads.read_bytes(path, _LARGEST_PICTURE), style)
        except (NcsnxError, OSError) as error:
            self.problems.append(f"{path}: {error}")
            return ""

    def series(self, measure: str) -> Sequence[Series]:
        """The newest series of a measure, with a line about the others."""
        found = sorted(self.ledger.series(measure), key=lambda one: one.changed, reverse=True)
        return self._first(found, measure)

    def newest(self, folders: list[Path], what: str) -> Sequence[Path]:
        """The folders that changed last, the newest first, with a line about the others."""
        return self._first(sorted(folders, key=lambda folder: folder.stat().st_mtime_ns, reverse=True), what)

    def _first(self, found: Sequence[T], what: str) -> Sequence[T]:
        """The first results, the newest ones, with a line about the others."""
        if len(found) > _MOST_FOLDERS:
            self.problems.append(f"{what}: the newest {_MOST_FOLDERS} of {len(found):,} are shown")
        return found[:_MOST_FOLDERS]


_SIZE_IN, _DOTS_PER_INCH = (4.4, 2.9), 180
_LARGE_BYTES = 400_000
"""Size above which a picture is embedded as a smaller JPEG."""
_LONGEST_SIDE = 1_600


def draw_curve(curve: Curve, y_label: str) -> bytes:
    """A curve by training step as a PNG.

    The axis of values is logarithmic if they are positive and span more than a factor of ten.
    """
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=_SIZE_IN, dpi=_DOTS_PER_INCH, layout="constrained")
        axes = figure.subplots()
        axes.plot(*zip(*curve, strict=True), marker="." if len(curve) < 30 else "")
        scale_values(axes)
        axes.set(xlabel="training step", ylabel=y_label)
        content = io.BytesIO()
        figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def address(content: bytes, style: Style) -> str:
    """A PNG as a data URI: a plot in 128 colors, or images, large ones as a smaller JPEG.

    Raises NcsnxError for an incomplete picture.
    """
    kind, reduced = "png", io.BytesIO()
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            if style == "plot":
                image.convert("RGB").quantize(128, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
                    reduced, format="PNG"
                )
            elif len(content) > _LARGE_BYTES:
                kind = "jpeg"
                image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
                image.convert("RGB").save(reduced, format="JPEG", quality=85)
            else:
                image.load()
                reduced.write(content)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise NcsnxError(f"not a complete picture: {error}") from error
    return f"data:image/{kind};base64,{base64.b64encode(reduced.getvalue()).decode('ascii')}"
