"""Plots of sweeps, by the content of the SVG: text and its position, markers and lines."""

import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any
from unicodedata import normalize

import attrs
import matplotlib
import pytest
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath
from PIL import Image

from ncsnx.config import AnnealedLangevin, Sampler
from ncsnx.config.variants import variants
from ncsnx.errors import NcsnxError
from ncsnx.evaluation import plot_samplers
from ncsnx.evaluation.plots import LossSeries, MetricSeries, ScoreSeries, plot_losses, plot_metrics, plot_scores

SVG = "{http://www.w3.org/2000/svg}"
BEST_COLOUR, CURVE_COLOUR = "#d55e00", "#0072b2"
CAPTION = (
    "1,000 images from the EMA, annealed Langevin (1,160 evaluations each), seed 0; features: classifier on "
    "digits (128 dimensions, sha256 3fa1c2d4); reference: digits, training images (1,498, fingerprint 81b3cc0e21aa)"
)
FALLING = [61.2, 20.3, 9.8, 4.2, 4.4]


@attrs.frozen
class Word:
    """A line of text in a drawing with its bounding box, in points from the upper left corner."""

    text: str
    points: float
    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: "Word") -> bool:
        return (
            min(self.right, other.right) - max(self.left, other.left) > 0.1
            and min(self.bottom, other.bottom) - max(self.top, other.top) > 0.1
        )


@attrs.frozen
class Drawing:
    root: ET.Element

    @property
    def size(self) -> tuple[float, float]:
        _, _, width, height = map(float, self.root.attrib["viewBox"].split())
        return width, height

    @property
    def words(self) -> list[Word]:
        return [word(element) for element in self.root.iter(f"{SVG}text")]

    def texts(self, points: float | None = None) -> list[str]:
        return [word.text for word in self.words if points in (None, word.points)]

    def marks(self, colour: str) -> list[tuple[float, float]]:
        """Positions of the markers of a colour, in points, in drawing order."""
        return [
            (float(use.attrib["x"]), float(use.attrib["y"]))
            for use in self.root.iter(f"{SVG}use")
            if f"fill: {colour}" in use.attrib["style"]
        ]

    def paths(self, style: str) -> list[list[tuple[float, float]]]:
        """Vertices of each path whose style contains `style`."""
        return [
            [(float(x), float(y)) for x, y in re.findall(r"[ML] (\S+) (\S+)", path.attrib["d"])]
            for path in self.root.iter(f"{SVG}path")
            if style in path.attrib.get("style", "")
        ]


def word(element: ET.Element) -> Word:
    text, style, turned = element.text or "", element.attrib["style"], element.attrib.get("transform", "")
    points = float(re.findall(r"font-size: ([\d.]+)px", style)[0])
    font = FontProperties(family="DejaVu Sans", size=points)
    width, height, descent = TextToPath().get_text_width_height_descent(text, font, False)
    if "translate" in turned:
        x, y = map(float, re.findall(r"translate\((\S+) ([^)]+)\)", turned)[0])
    else:
        x, y = float(element.attrib["x"]), float(element.attrib["y"])
    ahead = width * {"middle": 0.5, "end": 1.0}.get(style.rpartition("text-anchor: ")[2], 0.0)
    if "rotate(-90" in turned:
        return Word(text, points, x - height + descent, y - width + ahead, x + descent, y + ahead)
    return Word(text, points, x - ahead, y - height + descent, x - ahead + width, y + descent)


def scores(folder: Path, values: list[float], **given: Any) -> Drawing:
    steps = given.pop("steps", [500 * (index + 1) for index in range(len(values))])
    series = ScoreSeries(steps=steps, scores=values, errors=given.pop("errors", [None] * len(values)))
    usual = {
        "metric": "FD (classifier on digits)",
        "title": "digits",
        "caption": CAPTION,
        "best": None,
        "perfect": None,
    }
    _, svg = plot_scores(folder / "scores", series, **(usual | given))
    return Drawing(ET.parse(svg).getroot())


def metrics(folder: Path, count: int, checkpoints: int = 5, **given: Any) -> Drawing:
    names = ["KD (TorchScript some/long/path/net.pt)", "precision", "recall", "density", "coverage", "class score"]
    series = [
        MetricSeries(
            name=f"{names[index % len(names)]} {index}",
            values=[(1 + index) / (1 + number) for number in range(checkpoints)],
            errors=[0.1 if index % 2 else None] * checkpoints,
            better="higher" if index else "lower",
            perfect=given.get("perfect"),
        )
        for index in range(count)
    ]
    steps = [5_000 * (number + 1) for number in range(checkpoints)]
    _, svg = plot_metrics(folder / "metrics", steps, series, title="digits", caption=CAPTION)
    return Drawing(ET.parse(svg).getroot())


def losses(folder: Path, checkpoints: int, levels: int, **given: Any) -> Drawing:
    by_level = [[(1 + level) * 2.0**-index for level in range(levels)] for index in range(checkpoints)]
    series = LossSeries(
        steps=[5_000 * (index + 1) for index in range(checkpoints)],
        means=[2.0**-index for index in range(checkpoints)],
        sigmas=[50.0 * 0.7**level for level in range(levels)],
        by_level=given.pop("by_level", by_level),
    )
    _, svg = plot_losses(folder / "losses", series, title="digits", caption=CAPTION, **({"best": None} | given))
    return Drawing(ET.parse(svg).getroot())


def collisions(drawing: Drawing) -> list[tuple[str, str]]:
    """Texts that overlap or exceed the drawing."""
    width, height = drawing.size
    words = [word for word in drawing.words if word.text]
    over = [(one.text, other.text) for one, other in combinations(words, 2) if one.overlaps(other)]
    out = [
        word for word in words if not (min(word.left, word.top) >= 0 and word.right <= width and word.bottom <= height)
    ]
    return over + [(word.text, "the border") for word in out]


# Files


def test_a_plot_is_a_png_for_the_screen_and_an_svg_with_text_as_text(tmp_path: Path) -> None:
    drawing = scores(tmp_path, FALLING, title="digits: scores")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scores.png", "scores.svg"]
    with Image.open(tmp_path / "scores.png") as picture:
        assert picture.size == (1000, 680)  # 5 × 3.4 inches at 200 dots per inch
        assert round(picture.info["dpi"][0]) == 200
    assert drawing.size == (360.0, 244.8)
    for text in ("digits: scores", "FD (classifier on digits)", "training steps"):
        assert text in drawing.texts()
    assert " ".join(drawing.texts(points=6.5)) == CAPTION


def test_dots_in_a_stem_are_kept(tmp_path: Path) -> None:
    series = ScoreSeries(steps=[1], scores=[1.0], errors=[None])
    files = plot_scores(tmp_path / "v1.5", series, metric="FID", title="", caption="", best=None, perfect=None)
    assert files == (tmp_path / "v1.5.png", tmp_path / "v1.5.svg")


def test_equal_arguments_give_equal_bytes_whatever_style_a_person_has_set(tmp_path: Path) -> None:
    def files() -> list[bytes]:
        scores(tmp_path, FALLING, errors=[0.3] * 5, best=3, perfect=(0.4, 0.03))
        losses(tmp_path, 7, 10, best=3)
        return [path.read_bytes() for path in sorted(tmp_path.iterdir())]

    before = files()
    with matplotlib.rc_context({"axes.grid": True, "text.usetex": True, "font.family": "serif", "savefig.dpi": 50}):
        assert files() == before
        assert matplotlib.rcParams["axes.grid"] is True


def test_matplotlib_is_loaded_by_the_first_plot_and_pyplot_never(tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from ncsnx.evaluation.plots import ScoreSeries, plot_scores
assert "matplotlib" not in sys.modules
series = ScoreSeries(steps=[1], scores=[1.0], errors=[None])
plot_scores(Path({str(tmp_path / "x")!r}), series, metric="FID", title="t", caption="c", best=0, perfect=None)
assert "matplotlib.pyplot" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_folder_that_is_not_there_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(NcsnxError, match=r"cannot write .*missing/scores\.png"):
        scores(tmp_path / "missing", FALLING)


# Text


NAMES = [
    "run $x_1$ of {a}^2 \\frac",
    "tab\tline\nfeed\x00\x1b[31m\x7f\x85\u2028end",
    "日本語 🎉 עברית عربي \u202eturned\u202c \ud800 \ufffe \U0010ffff \U000e0041 \ue000",
    "<b>bold</b> & \"quoted\" 'single' ]]> e\u0301 A\u030a Å ﬁ",
    "many words in a name " * 20,
    "/no/space/anywhere" * 30,
]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_any_kind_are_drawn_whole_and_nothing_runs_into_them(tmp_path: Path, name: str) -> None:
    drawing = scores(
        tmp_path, FALLING, title=name, metric=f"FD ({name[:150]})", caption=CAPTION + name, best=3, perfect=(0.4, 0.03)
    )
    assert collisions(drawing) == []
    kept = "".join(c for c in normalize("NFC", name) if "!" <= c <= "~")
    for points in (9.5, 6.5):  # the lines of title and caption
        drawn = "".join(c for c in "".join(drawing.texts(points)) if "!" <= c <= "~")
        assert drawn.endswith(kept)
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u202e]", "".join(drawing.texts()))


def test_titles_and_captions_may_be_empty(tmp_path: Path) -> None:
    assert "training steps" in scores(tmp_path, FALLING, title="", caption=" ").texts()


def test_what_the_font_lacks_becomes_an_empty_square(tmp_path: Path) -> None:
    assert "Träume □□□ αβγ" in scores(tmp_path, FALLING, title="Träume 日本語 αβγ").texts()


def test_a_long_caption_makes_the_figure_higher_and_leaves_the_axes_their_size(tmp_path: Path) -> None:
    def height_of_axis(drawing: Drawing) -> float:
        return max(abs(path[0][1] - path[1][1]) for path in drawing.paths("stroke-linecap: square") if len(path) == 2)

    usual, long = scores(tmp_path, FALLING), scores(tmp_path, FALLING, caption=f"{CAPTION} " * 5)
    assert long.size[1] > usual.size[1] + 50
    assert height_of_axis(long) == pytest.approx(height_of_axis(usual), rel=0.02)
    assert collisions(long) == []


def test_an_overlong_name_of_a_metric_ends_in_an_ellipsis(tmp_path: Path) -> None:
    drawing = scores(tmp_path, FALLING, metric="FD (TorchScript /a/very/long/path/to/a/network.pt) " * 5)
    assert [text[-1] for text in drawing.texts(points=8.5) if text.endswith("…")] == ["…"]
    assert collisions(drawing) == []


# The axes


def test_scores_over_more_than_a_factor_of_ten_get_a_logarithmic_axis_in_plain_numbers(tmp_path: Path) -> None:
    drawing = scores(tmp_path, [3000.0, 300.0, 30.0, 3.0])
    heights = [y for _, y in drawing.marks(CURVE_COLOUR)]
    first, second, third = (lower - upper for upper, lower in pairwise(heights))
    assert first == pytest.approx(second)
    assert second == pytest.approx(third)
    assert {"10", "100", "1,000"} <= set(drawing.texts())


@pytest.mark.parametrize("values", [[9.0, 3.0, 1.0], [30.0, 10.0, -0.1]])
def test_other_scores_get_a_linear_axis_that_shows_zero(tmp_path: Path, values: list[float]) -> None:
    drawing = scores(tmp_path, values)
    first, second, third = (y for _, y in drawing.marks(CURVE_COLOUR))
    assert (second - first) / (third - first) == pytest.approx(
        (values[0] - values[1]) / (values[0] - values[2]), rel=1e-4
    )
    assert "0" in drawing.texts()


def test_close_scores_are_spread_over_the_axis(tmp_path: Path) -> None:
    drawing = scores(tmp_path, [8.30, 8.25, 8.20])
    heights = [y for _, y in drawing.marks(CURVE_COLOUR)]
    assert max(heights) - min(heights) > 0.3 * drawing.size[1]
    assert "8.25" in drawing.texts()


@pytest.mark.parametrize(
    ("steps", "labels"),
    [
        ([1000, 2000, 3000], ["1,000", "2,000", "3,000"]),
        ([50_000, 100_000, 150_000, 200_000], ["50k", "100k", "150k", "200k"]),
        ([0, 500_000, 1_000_000, 1_500_000], ["0", "0.5M", "1M", "1.5M"]),
        ([153_333, 200_000], ["153,333", "200,000"]),
        ([153_333], ["153,333"]),
    ],
)
def test_steps_are_labelled_in_thousands_and_millions(tmp_path: Path, steps: list[int], labels: list[str]) -> None:
    drawing = scores(tmp_path, [8.0] * len(steps), steps=steps)
    assert set(labels) <= set(drawing.texts(points=7.5))


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        [8.2],
        [math.nan],
        [8.2, 7.9],
        [300 * math.exp(-index / 3) + 8 for index in range(40)],
        [0.0] * 6,
        [3.0, math.nan, 2.0, math.inf],
        [1e-9, 3e-9, 2e-9],
        [1e8, 1e-8, 1.0],
        [-0.001, -0.002, -0.0015],
        [123456.5, 123456.4, 123456.3],
    ],
)
def test_any_scores_make_a_plot_without_overlaps(tmp_path: Path, values: list[float]) -> None:
    errors = [0.1, math.nan, math.inf, None, 0.0, 0.2][: len(values)] + [0.3] * (len(values) - 6)
    drawing = scores(tmp_path, values, errors=errors, best=len(values) - 1, perfect=(0.41, 0.02))
    assert collisions(drawing) == []
    width, height = drawing.size
    assert len(drawing.marks(CURVE_COLOUR)) == sum(map(math.isfinite, values))
    assert all(0 < x < width and 0 < y < height for x, y in drawing.marks(CURVE_COLOUR))
    assert len(set(drawing.texts(points=7.5))) == len(drawing.texts(points=7.5))  # all tick labels are distinct


def test_scores_that_are_all_zero_have_room_on_both_sides(tmp_path: Path) -> None:
    drawing = scores(tmp_path, [0.0, 0.0])
    assert {"−1", "0", "1"} <= {text.removesuffix(".0") for text in drawing.texts()}


# Marks


def test_the_best_is_marked_where_it_is_and_told_with_its_error_and_step(tmp_path: Path) -> None:
    drawing = scores(
        tmp_path, FALLING, errors=[2.0, 1.0, 0.5, 0.23, None], best=3, steps=[50_000 * i for i in range(1, 6)]
    )
    (star, _) = drawing.marks(BEST_COLOUR)  # the other is in the legend
    assert star == drawing.marks(CURVE_COLOUR)[3]
    assert "best: 4.20 ± 0.23 at step 200,000" in drawing.texts()
    assert not scores(tmp_path, FALLING).marks(BEST_COLOUR)


@pytest.mark.parametrize(("best", "words"), [(3, "(lower is better)"), (0, "(higher is better)"), (2, None)])
def test_the_choice_of_the_best_tells_which_end_is_good(tmp_path: Path, best: int | None, words: str | None) -> None:
    texts = scores(tmp_path, FALLING, best=best).texts()
    assert [text for text in texts if text.endswith("is better)")] == ([words] if words else [])


def test_error_bars_span_one_standard_error_on_each_side(tmp_path: Path) -> None:
    drawing = scores(tmp_path, [8.0, 6.0, 7.0, 7.5], errors=[1.0, None, math.nan, math.inf])
    (first_x, first_y), (_, second_y), *_ = drawing.marks(CURVE_COLOUR)
    bars = [bar for bar in drawing.paths("stroke-width: 0.8") if bar[0][1] != bar[1][1]]
    ((x, lower), (_, upper)) = bars[0]
    assert len(bars) == 1
    assert x == first_x
    for end, sign in ((lower, 1), (upper, -1)):
        assert end == pytest.approx(first_y + sign * (second_y - first_y) / 2, abs=1e-3)


def test_a_perfect_model_is_a_dashed_line_in_a_band_of_its_spread(tmp_path: Path) -> None:
    drawing = scores(tmp_path, [9.0, 3.0, 1.0], perfect=(2.0, 0.25))
    line, _ = drawing.paths("stroke-dasharray")  # the other is in the legend
    _, (_, three), (_, one) = drawing.marks(CURVE_COLOUR)
    assert line[0][1] == line[1][1] == pytest.approx((three + one) / 2, abs=1e-3)
    (band,) = drawing.paths("opacity: 0.2")
    heights = sorted({y for _, y in band})
    assert [heights[0], heights[-1]] == pytest.approx([line[0][1] - (one - three) / 8, line[0][1] + (one - three) / 8])
    assert "perfect model: 2.00 ± 0.25" in drawing.texts()


def test_a_band_below_every_score_has_a_place_on_the_axis(tmp_path: Path) -> None:
    drawing = scores(tmp_path, [9.0, 3.0, 1.0], perfect=(0.5, 0.1))
    (band,) = drawing.paths("opacity: 0.2")
    assert all(0 < y < drawing.size[1] for _, y in band)


@pytest.mark.parametrize("perfect", [(0.01, 0.02), (0.0, 0.0)])
def test_a_band_that_reaches_below_zero_fits_a_logarithmic_axis(tmp_path: Path, perfect: tuple[float, float]) -> None:
    drawing = scores(tmp_path, [900.0, 3.0, 1.0], perfect=perfect)
    assert collisions(drawing) == []


def test_a_perfect_model_far_from_all_scores_is_told_and_squeezes_nothing(tmp_path: Path) -> None:
    drawing = scores(tmp_path, [8.3, 8.25, 8.2], perfect=(0.1, 0.01))
    assert "perfect model: 0.100 ± 0.010, off the scale" in drawing.texts()
    assert not drawing.paths("stroke-dasharray")
    assert not drawing.paths("opacity: 0.2")


# Losses


def test_a_few_checkpoints_get_a_line_each_in_a_legend(tmp_path: Path) -> None:
    drawing = losses(tmp_path, 3, 10, best=2)
    assert drawing.size == (504.0, 230.4)
    for text in ("mean held-out loss", "held-out loss per level", "noise level σ", "training steps"):
        assert text in drawing.texts()
    assert [text for text in drawing.texts() if text.startswith("step ")] == [
        "step 5,000",
        "step 10,000",
        "step 15,000 (best)",
    ]
    assert "best: 0.2500 at step 15,000" in drawing.texts()
    assert collisions(drawing) == []


def test_many_checkpoints_share_a_colour_bar_and_the_best_stands_out(tmp_path: Path) -> None:
    drawing = losses(tmp_path, 30, 40, best=20)
    assert drawing.texts().count("training steps") == 2  # below the left panel and along the colour bar
    assert [text for text in drawing.texts() if text.startswith("step ")] == ["step 105,000 (best)"]
    best_lines = [
        path for path in drawing.paths(f"stroke: {BEST_COLOUR}") if len(path) > 3
    ]  # the line in the legend is shorter
    assert [len(path) for path in best_lines] == [40]
    assert collisions(drawing) == []


def test_levels_run_along_a_logarithmic_axis(tmp_path: Path) -> None:
    drawing = losses(tmp_path, 1, 12, best=0)
    places = [x for x, _ in drawing.marks(BEST_COLOUR)][2:]  # after the star and its copy in the legend
    levels = places[:12]
    steps = [left - right for left, right in pairwise(levels)]
    assert steps == pytest.approx([steps[0]] * 11, rel=1e-3)


@pytest.mark.parametrize(("checkpoints", "levels"), [(1, 1), (6, 232), (40, 3)])
def test_any_number_of_checkpoints_and_levels_makes_a_plot(tmp_path: Path, checkpoints: int, levels: int) -> None:
    assert collisions(losses(tmp_path, checkpoints, levels, best=checkpoints - 1)) == []


def test_levels_that_were_not_measured_are_gaps(tmp_path: Path) -> None:
    drawing = losses(tmp_path, 1, 5, best=0, by_level=[[1.0, None, 2.0, math.nan, 3.0]])
    assert len(drawing.marks(BEST_COLOUR)) == 3 + 3  # the star, and the copies of star and line in the legends


def test_no_two_samplers_look_alike_in_the_plot_of_a_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    known = variants(Sampler)
    assert len({plot_samplers.look_of(tag) for tag in known}) == len(known)
    many = [f"of-a-package-{number}" for number in range(64 - len(known))]
    monkeypatch.setattr(plot_samplers, "variants", lambda family: {**known, **dict.fromkeys(many, AnnealedLangevin)})
    assert len({plot_samplers.look_of(tag)[1:] for tag in (*known, *many)}) == 64


@pytest.mark.parametrize("checkpoints", [1, 2, 40])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_every_metric_has_a_panel_that_names_it_and_its_good_end(tmp_path: Path, count: int, checkpoints: int) -> None:
    drawing = metrics(tmp_path, count, checkpoints)
    assert collisions(drawing) == []
    words = drawing.texts()
    assert words.count("training steps") == count
    assert words.count("(lower is better)") == 1
    assert words.count("(higher is better)") == count - 1
    assert len(drawing.marks(CURVE_COLOUR)) == count * checkpoints


def test_a_perfect_model_is_a_dashed_line_where_values_come_near_it(tmp_path: Path) -> None:
    dashes = "stroke-dasharray"
    assert len(metrics(tmp_path, 1, perfect=0.9).paths(dashes)) == 1
    assert len(metrics(tmp_path, 1, perfect=50.0).paths(dashes)) == 0
