"""What a distribution says of itself and pyproject.toml can't: addresses, and a README whose pictures show anywhere.

The project's public address is one setting, `address` under [tool.hatch.metadata.hooks.custom] in pyproject.toml. While
it is empty, a distribution names no address and its README is the repository's, to the byte.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"^```.*?^```|^ {4}[^\n]*|`[^`]*`|(?P<before>!\[[^][]*\]|\])\((?P<target>[^()\s]+)\)", re.M | re.S)
"""Code, which stays as it is; or a picture, or the second half of a link, in Markdown."""


class Metadata(MetadataHookInterface):
    """Fills in the fields of [project] that follow from the address: `readme` and `urls`."""

    def update(self, metadata: dict[str, Any]) -> None:
        address = self.config["address"].rstrip("/")
        tag = f"v{metadata['version']}"
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute_links(text, address, tag)}
        metadata["urls"] = urls(address, tag)


def absolute_links(text: str, address: str, tag: str) -> str:
    """Markdown whose links to pictures, files and headings of the repository work on any page, such as a package index.

    They lead to the state of the repository that `tag` names, so that those of an old release keep working. Links that
    have a scheme, and code, stay; so does all of it while `address` is empty.
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
    """Labels and addresses that a package index shows beside the README; none while `address` is empty."""
    if not address:
        return {}
    return {
        "Repository": address,
        "Issues": f"{address}/issues",
        "Changelog": f"{address}/blob/{tag}/CHANGELOG.md",
    }
