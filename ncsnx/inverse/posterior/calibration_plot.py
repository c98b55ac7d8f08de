"""calibration.png: the share of truths within central intervals, against the share that is expected."""

import io
from collections.abc import Sequence

from ncsnx.inverse.posterior.calibration import Calibration, CoveragePoint
from ncsnx.inverse.posterior.calibration_table import compared_in_words

_SIZE_IN, _DOTS_PER_INCH = 4.2, 200
_LINE, _BAND, _POINTS, _SMALL_POINTS = "#0072B2", "#BBBBBB", 8, 7


def draw_calibration(calibration: Calibration, curve: Sequence[CoveragePoint]) -> bytes:
    """The plot as a PNG: diagonal, band of ± 2 standard errors around it, curve, and marks at 50, 80 and 95 %.

    calibration: with an interval whose share is known. curve: points by expected share.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(_SIZE_IN, _SIZE_IN * 1.12), dpi=_DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    expected = [0.0, *(point.expected for point in curve), 1.0]
    width = [0.0, *(2 * point.error for point in curve), 0.0]
    low = [max(0.0, one - two) for one, two in zip(expected, width, strict=True)]
    high = [min(1.0, one + two) for one, two in zip(expected, width, strict=True)]
    axes.fill_between(expected, low, high, color=_BAND, alpha=0.5, linewidth=0, label="± 2 standard errors")
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle="--", label="calibrated")
    shares = [0.0, *(point.share for point in curve), 1.0]
    axes.plot(expected, shares, color=_LINE, linewidth=1.5, label="found")
    marks = [
        (one.expected, one.share) for one in calibration.intervals if one.expected is not None and one.share is not None
    ]
    axes.plot(*zip(*marks, strict=True), "o", color=_LINE, markersize=4)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set_xlabel("expected share of truths within the central interval", fontsize=_POINTS)
    axes.set_ylabel("share found", fontsize=_POINTS)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.tick_params(labelsize=_POINTS)
    figure.legend(fontsize=_POINTS, frameon=False, loc="outside lower left", ncols=3)  # covers no curve
    axes.set_title(_caption(calibration), fontsize=_SMALL_POINTS, loc="left")
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def _caption(calibration: Calibration) -> str:
    """Lines that fit the width of the plot."""
    band = (
        "pixels of a picture are correlated, so the band comes from\nthe differences between pictures"
        if calibration.pictures > 1
        else "the band is that of independent pixels; those of a picture are\ncorrelated, so it should be wider"
    )
    return f"{compared_in_words(calibration)}\n{band}"
