"""Sphinx extension: fills in the pages of files that stand at the root of the repository."""

import re
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
IN_PROJECT = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""File at the root → its page in project/."""


def from_root(name: str) -> str:
    """A file at the root, with links as they are from project/. Files that the site lacks are named without a link."""

    def linked(link: re.Match[str]) -> str:
        text, target = link["text"], link["target"]
        if target.startswith(("#", "https:")):
            return link[0]
        if target.startswith("docs/"):
            return f"[{text}](../{target.removeprefix('docs/')})"
        return f"[{text}]({IN_PROJECT[target]})" if target in IN_PROJECT else text

    return re.sub(r"\[(?P<text>[^][]+)\]\((?P<target>[^()\s]+)\)", linked, (ROOT / name).read_text(encoding="utf-8"))


PAGES = {
    "project/contributing": partial(from_root, "CONTRIBUTING.md"),
    "project/changelog": partial(from_root, "CHANGELOG.md"),
}


def fill_in(app: Any, page: str, source: list[str]) -> None:
    if page in PAGES:
        source[0] = PAGES[page]()


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", fill_in)
    app.connect("env-get-outdated", lambda app, env, added, changed, removed: list(PAGES))
    return {"parallel_read_safe": True}
