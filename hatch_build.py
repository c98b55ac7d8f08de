"""Build hook for the metadata that follow from the project's public address: URLs, and a README with absolute links.

The address is one setting, `address` under [tool.hatch.metadata.hooks.custom] in pyproject.toml. While it is empty,
distributions have no URLs, and their README is that of the repository, byte for byte.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"^```.*?^```|^ {4}[^\n]*|`[^`]*`|(?P<before>!\[[^][]*\]|\])\((?P<target>[^()\s]+)\)", re.M | re.S)
"""Markdown code, which stays unchanged; or a picture, or the second half of a link."""


class Metadata(MetadataHookInterface):
    """Sets the fields of [project] that follow from the address: `readme` and `urls`."""

    def update(self, metadata: dict[str, Any]) -> None:
        address = self.config["address"].rstrip("/")
        tag = f"v{metadata['version']}"
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute_links(text, address, tag)}
        metadata["urls"] = urls(address, tag)


def absolute_links(text: str, address: str, tag: str) -> str:
    """Markdown with absolute links to the repository's pictures, files and headings, for example for a package index.

    Links lead to the repository at `tag`, so that those of an old release keep working. Code and links with a scheme
    stay unchanged, and with an empty `address` the whole text does.
    """

    def absolute(found: re.Match[str]) -> str:
        target = found["target"]
        if target is None or re.match(r"[a-z][a-z0-9+.-]*:", target):
            return found[0]
        path = f"README.md{target}" if target.startswith("#") else target
        view = "raw" if found["before"].startswith("!") else "blob"
        return f"{found['before']}({address}/{view}/{tag}/{path})"

    return LINK.sub(absolute, text) if address else text


def urls(address: str, tag: str) -> dict[str, str]:
    """Labels and URLs that a package index shows beside the README; empty without an address."""
    if not address:
        return {}
    return {
        "Repository": address,
        "Issues": f"{address}/issues",
        "Changelog": f"{address}/blob/{tag}/CHANGELOG.md",
    }
