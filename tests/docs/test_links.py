"""Links of Markdown files lead to files and headings that exist, and the checker of the site finds those that don't."""

from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, ROOT
from tests.docs.links import anchors, broken_in_markdown, broken_in_site

FILLED_IN = {"project/contributing.md", "project/changelog.md", "reference/commands.md", "reference/configuration.md"}
"""Pages whose headings come when the site is built; the session `docs` checks links to these."""


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    found = broken_in_markdown(page, ROOT)
    assert [line for line in found if not any(f"{filled}#" in line for filled in FILLED_IN)] == []


def test_a_broken_link_and_a_missing_anchor_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h1 id="here">A</h1><a href="#here"></a><a href="b.html#no"></a><img src="c.png">'
    )
    (tmp_path / "b.html").write_text('<a href="a.html#here"></a><a href="https://example.org/x#y"></a>')

    assert list(broken_in_site(tmp_path)) == [
        "a.html: b.html#no has no such anchor",
        "a.html: c.png is no page or file",
    ]


def test_anchors_are_those_of_code_hosts() -> None:
    assert anchors("# `ncsnx fid`: a Score\n\n## Own images, σ_1\n") == {"ncsnx-fid-a-score", "own-images-σ_1"}
