"""HTML for notebooks: hostile text stays text, and nothing sets colors that one kind of page lacks."""

import re

import attrs
import torch

import ncsnx
from ncsnx.images import MOST_SHOWN, ImageBatch
from ncsnx.notebooks import heading, html_table, picture_html

HOSTILE = '<script>alert(\'1\')</script> " onload="x" \x1b[31m \u202e'


def test_hostile_text_stays_text() -> None:
    shown = [
        heading(HOSTILE, HOSTILE),
        html_table([HOSTILE], [[HOSTILE]], ["left"]),
        picture_html(b"", HOSTILE),
        attrs.evolve(ncsnx.experiment("digits"), note='<b onclick="x">')._repr_html_(),
    ]

    for text in shown:
        assert not re.search(r"<(script|b onclick)|\" onload=|[\x1b\u202e]", text)
    assert "&lt;script&gt;" in shown[0]


def test_colors_are_those_of_the_page() -> None:
    text = ncsnx.experiment("digits")._repr_html_()

    assert set(re.findall(r"(?<![-\w])(?:color|background): ([^;\"]+)", text)) <= {"none", "inherit"}


def test_a_large_batch_shows_its_first_images() -> None:
    images = torch.rand(MOST_SHOWN + 20, 3, 4, 4).as_subclass(ImageBatch)
    shown = images._repr_html_()

    assert shown is not None
    assert f"the first {MOST_SHOWN} of {MOST_SHOWN + 20} images of 3×4×4" in shown
