"""Plots of measurements, by the text and the number of markers in the SVG."""

import re
import warnings
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ncsnx.evaluation.plots import plot_losses, plot_scores

SVG = "{http://www.w3.org/2000/svg}"
CAPTION = "1,000 images per checkpoint from seed 0, annealed Langevin with 1,160 evaluations per image"
FALLING = [61.2, 20.3, 9.8, 4.2, 4.4]


def rows(values: list[float], error: float | None = None) -> list[dict[str, Any]]:
    return [
        {"step": 5_000 * place, "score": score, "error": error, "share": score, "levels": [score, None, score / 2]}
        for place, score in enumerate(values, start=1)
    ]


def texts(path: Path) -> list[str]:
    return [element.text or "" for element in ET.parse(path).getroot().iter(f"{SVG}text")]


def marks(path: Path, color: str) -> int:
    uses = ET.parse(path).getroot().iter(f"{SVG}use")
    return sum(f"fill: {color}" in use.attrib["style"] for use in uses)


def scores(folder: Path, values: list[float], error: float | None = None, **given: Any) -> list[str]:
    usual: dict[str, Any] = {"metric": "FD (classifier)", "title": "digits", "caption": CAPTION, "perfect": None}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_scores(folder / "scores", rows(values, error), **{**usual, **given})
    return texts(folder / "scores.svg")


def test_a_plot_is_a_png_and_an_svg_with_text_as_text(tmp_path: Path) -> None:
    shown = scores(tmp_path, FALLING, error=0.3)
    with Image.open(tmp_path / "scores.png") as picture:
        assert picture.size[0] >= 1_000
    assert {"digits", "training steps", "(lower is better)", "best: 4.20 ± 0.30 at step 20,000", "20k"} <= set(shown)
    assert {"5", "10", "20", "50"} <= set(shown), "a logarithmic axis in plain numbers"
    assert marks(tmp_path / "scores.svg", "#0072b2") == len(FALLING)
    assert " ".join(shown).count("annealed Langevin") == 1


def test_names_of_any_kind_are_drawn_literally(tmp_path: Path) -> None:
    name = "a $x_1$ & <b> tab\tbell\a 漢字 \u202e"
    shown = " ".join(scores(tmp_path, FALLING, title=name, metric=f"FD {name}", caption=name))
    assert shown.count(re.sub("[\a\t\u202e]", " ", name).strip()) >= 3


@pytest.mark.parametrize(
    ("values", "perfect"), [([0.0, 0.0], (0.0, 0.0)), ([9.0, 3.0, -0.1], (0.01, 0.02)), ([1e-9, 1e25] * 20, None)]
)
def test_any_scores_make_a_plot(tmp_path: Path, values: list[float], perfect: tuple[float, float] | None) -> None:
    shown = scores(tmp_path, values, error=0.5, perfect=perfect)
    assert any(text.startswith("best: ") for text in shown)
    assert any(text.startswith("perfect model: ") for text in shown) == (perfect is not None)


def test_losses_are_drawn_over_steps_and_over_levels(tmp_path: Path) -> None:
    plot_losses(tmp_path / "losses", rows(FALLING), [50.0, 1.0, 0.01], title="digits", caption=CAPTION)
    shown = texts(tmp_path / "losses.svg")
    assert {"mean held-out loss", "held-out loss per level", "noise level σ"} <= set(shown)
    assert "training steps" in shown
