"""Metadata of the distribution: URLs from one setting, and a README with absolute links."""

import tomllib
from email import message_from_string
from pathlib import Path
from zipfile import ZipFile

import pytest

import ncsnx

ROOT = Path(__file__).parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["metadata"]["hooks"]["custom"]
BASE = "https://forge.example/o/ncsnx"


def metadata_with(address: str, folder: Path) -> tuple[dict[str, list[str]], str]:
    """(fields, README) of the metadata of a wheel built with this address."""
    build = pytest.importorskip("hatchling.builders.wheel")
    settings = (ROOT / "pyproject.toml").read_text()
    empty = f'address = "{SETTINGS["address"]}"'
    assert settings.count(empty) == 1
    (folder / "pyproject.toml").write_text(settings.replace(empty, f'address = "{address}"'))
    for name in ("README.md", "LICENSE", "hatch_build.py"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    (folder / "experiments").mkdir()
    (folder / "ncsnx").mkdir()
    (folder / "ncsnx" / "version.py").write_text((ROOT / "ncsnx" / "version.py").read_text())
    (wheel,) = build.WheelBuilder(str(folder)).build(directory=str(folder / "dist"), versions=["standard"])
    with ZipFile(wheel) as archive:
        text = archive.read(f"ncsnx-{ncsnx.__version__}.dist-info/METADATA").decode()
    message = message_from_string(text)
    fields: dict[str, list[str]] = {}
    for name, value in message.items():
        fields.setdefault(name, []).append(str(value))
    return fields, text.partition("\n\n")[2]


def links(markdown: str) -> list[tuple[str, str]]:
    """(kind, target) of every picture and link, by a Markdown parser."""
    parser = pytest.importorskip("markdown_it").MarkdownIt().enable("table")
    inner = [part for block in parser.parse(markdown) for part in block.children or ()]
    return [(part.type, str(part.attrs.get("src", part.attrs.get("href")))) for part in inner if part.attrs]


def test_without_an_address_a_distribution_names_none_and_keeps_the_readme(tmp_path: Path) -> None:
    fields, readme = metadata_with("", tmp_path)

    assert "Project-URL" not in fields
    assert readme == (ROOT / "README.md").read_text()


def test_with_an_address_every_picture_and_link_of_the_readme_is_absolute(tmp_path: Path) -> None:
    fields, readme = metadata_with(BASE + "/", tmp_path)

    tag = f"v{ncsnx.__version__}"
    assert f"Repository, {BASE}" in fields["Project-URL"]
    assert f"Changelog, {BASE}/blob/{tag}/CHANGELOG.md" in fields["Project-URL"]
    expected = []
    for kind, target in links((ROOT / "README.md").read_text()):
        if not target.startswith("http"):
            view = "raw" if kind == "image" else "blob"
            target = f"{BASE}/{view}/{tag}/{'README.md' if target.startswith('#') else ''}{target}"
        expected.append((kind, target))
    assert links(readme) == expected
    assert any(kind == "image" for kind, _ in expected)


def test_code_with_brackets_is_no_link() -> None:
    absolute_links = pytest.importorskip("hatch_build").absolute_links
    code = "`a[i](x)` and\n\n    b[i](x)\n\n```python\nc[i](x)\n```\n"
    assert absolute_links(code, BASE, "v1") == code
    assert absolute_links("[![n](a.png)](b.md)", BASE, "v1") == f"[![n]({BASE}/raw/v1/a.png)]({BASE}/blob/v1/b.md)"
