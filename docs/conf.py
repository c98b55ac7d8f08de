"""The site: `nox -s docs` builds it. `python docs/references.py` writes the pages of reference/."""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent / "extensions")]

import ncsnx  # noqa: E402

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
ADDRESS = SETTINGS["tool"]["hatch"]["metadata"]["hooks"]["custom"]["address"].rstrip("/")
"""The project's public address; empty until a person fills it in."""

project = "ncsnx"
author = "The ncsnx authors"
version = release = ncsnx.__version__
extensions = ["myst_parser", "filled_pages"]
exclude_patterns = ["_build", "extensions"]
nitpicky = True

myst_heading_anchors = 3

smartquotes = False  # they change -- in options

html_theme = "pydata_sphinx_theme"
html_title = f"ncsnx {version}"
html_show_sourcelink = False
html_copy_source = False
html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["site.css"]
html_context = {"default_mode": "auto"}
html_sidebars = {"index": []}
html_theme_options = {
    "show_prev_next": True,
    "show_toc_level": 2,
    "navigation_depth": 3,
    "navbar_align": "left",
    "secondary_sidebar_items": {"**": ["page-toc"], "index": []},
    "footer_start": ["copyright"],
    "footer_end": [],
    "icon_links": [{"name": "Repository", "url": ADDRESS, "icon": "fa-solid fa-code-branch"}] if ADDRESS else [],
}
copyright = "The ncsnx authors, MIT license"
