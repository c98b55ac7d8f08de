"""The plot of a benchmark: where the time of a training step goes, by execution, with the convolution peak."""

from pathlib import Path
from statistics import median

import attrs

from ncsnx.benchmarking.benchmark import ExecutionResult, SizeResult
from ncsnx.evaluation import plots

# Okabe and Ito's palette, with grey for its yellow, which is hard to see on white, and olive for the peak's black
_COLOURS = {
    "data": "#777777",
    "noise": "#E69F00",
    "convolution": "#0072B2",
    "normalization": "#56B4E9",
    "pools": "#009E73",
    "resizing": "#999933",
    "elementwise": "#D55E00",
    "optimizer, EMA": "#CC79A7",
}


@attrs.frozen
class TimeBar:
    """One execution: milliseconds per image of a training step, by kind of work."""

    name: str
    parts_ms: dict[str, float]
    peak_ms: float
    """The convolutions of the step by themselves."""


def time_bar(size: SizeResult, one: ExecutionResult) -> TimeBar:
    """The bar of an execution. The parts are scaled to the median step of the rounds."""
    scale = 1000 * median(one.step_s) / size.batch_size / sum(one.parts_s.values())
    parts = {"data": one.parts_s["data"], "noise": one.parts_s["noise"]}
    parts |= {kind: share * one.parts_s["network"] for kind, share in one.network_shares.items()}
    parts["optimizer, EMA"] = one.parts_s["update"]
    return TimeBar(
        one.name,
        {name: scale * seconds for name, seconds in parts.items()},
        1000 * median(one.training_convolutions_s) / size.batch_size,
    )


def plot_time(stem: Path, size: SizeResult, *, title: str, caption: str) -> tuple[Path, Path]:
    """Draws a bar per execution into `stem`.png and `stem`.svg. Raises NcsnxError if a file can't be written."""
    bars = [time_bar(size, one) for one in size.executions]
    with plots.style():
        figure = plots.new_figure(6.6, 1.6 + 0.36 * len(bars), title, caption)
        axes = figure.add_subplot()
        for row, bar in enumerate(bars):
            left = 0.0
            for name, width in bar.parts_ms.items():
                axes.barh(row, width, 0.62, left=left, color=_COLOURS[name], label=name if row == 0 else None)
                left += width
            axes.plot(
                [bar.peak_ms] * 2, [row - 0.42, row + 0.42], color="black", linewidth=1.6, solid_capstyle="butt",
                label="the convolutions alone" if row == 0 else None,
            )  # fmt: skip
            words = f"  {left:,.3g} ms, {100 * bar.peak_ms / left:.0f} % of the peak"
            axes.text(left, row, words, va="center", parse_math=False)
        longest = max(sum(bar.parts_ms.values()) for bar in bars)
        axes.set_xlim(0, 1.42 * longest)
        axes.set_yticks(range(len(bars)), labels=[bar.name for bar in bars])
        axes.invert_yaxis()
        axes.set_xlabel("milliseconds per image of a training step")
        axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1), ncols=5, handlelength=1.1, columnspacing=1.0)
        return plots.write(stem, figure)
