"""Checks the links of the built site, and of README.md and CONTRIBUTING.md: `python -m tests.docs.links FOLDER`.

Every link to a page, a file or an anchor must lead somewhere. Addresses of other sites are not visited.
"""

import itertools
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
FROM_ROOT = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")


class Page(HTMLParser):
    """Anchors and targets of an HTML page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.targets: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is not None and name in ("id", "name"):
                self.anchors.add(value)
            elif value is not None and name in ("href", "src"):
                self.targets.append(value)


def broken_in_site(site: Path) -> Iterator[str]:
    """Targets in the built pages of `site` that don't exist."""
    paths = [path.resolve() for path in sorted(site.rglob("*.html")) if "_static" not in path.parts]
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in paths}
    for path, page in pages.items():
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            to = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not to.exists():
                yield f"{path.relative_to(site.resolve())}: {target} is no page or file"
            elif parts.fragment and to in pages and unquote(parts.fragment) not in pages[to].anchors:
                yield f"{path.relative_to(site.resolve())}: {target} has no such anchor"


def broken_in_markdown(path: Path, root: Path, site: Path | None = None) -> Iterator[str]:
    """Relative targets of a Markdown file below `root` that don't exist, as a page on a code host shows them.

    site: the built one, whose pages may have more headings than their sources.
    """
    for target in targets(path.read_text(encoding="utf-8")):
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            continue
        to = (path.parent / unquote(parts.path)) if parts.path else path
        if not to.exists():
            yield f"{path.relative_to(root)}: {target} is no file"
        elif parts.fragment and to.suffix == ".md":
            known = anchors(to.read_text(encoding="utf-8"))
            if site is not None and to.resolve().is_relative_to(root / "docs"):
                built = site / to.resolve().relative_to(root / "docs").with_suffix(".html")
                known |= Page(built.read_text(encoding="utf-8")).anchors
            if unquote(parts.fragment) not in known:
                yield f"{path.relative_to(root)}: {target} has no such heading"


def targets(text: str) -> list[str]:
    """Targets of the links and pictures of a Markdown text."""
    tokens = (child for token in MarkdownIt("commonmark").enable("table").parse(text) for child in token.children or ())
    found = (token.attrs.get("href") or token.attrs.get("src") for token in tokens)
    return [str(target) for target in found if target]


def anchors(text: str) -> set[str]:
    """Anchors that code hosts give the headings of a Markdown text: 'Your own images' has `your-own-images`."""
    tokens = MarkdownIt("commonmark").parse(text)
    headings = [
        "".join(child.content for child in inline.children or ())
        for opening, inline in itertools.pairwise(tokens)
        if opening.type == "heading_open"
    ]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def main() -> int:
    """Prints the broken links. 1 where there are any."""
    site = Path(sys.argv[1])
    found = [
        *broken_in_site(site),
        *(line for name in FROM_ROOT for line in broken_in_markdown(ROOT / name, ROOT, site)),
    ]
    print(*found, sep="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
