"""Entry points of installed packages are found wherever importlib.metadata finds them."""

import sys
import zipfile
from importlib.machinery import PathFinder
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from ncsnx.registering import entry_points_of

GROUP = "ncsnx.trial"
POINTS = f"[console_scripts]\nx = a:b\n\n[{GROUP}]\nmine = my_module\n"


def found(*path: Path) -> list[str]:
    """The modules of the group where only these places are on the import path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(one) for one in path])
        return [entry.value for entry in entry_points_of(GROUP)]


@pytest.mark.parametrize("info", ["mine-1.0.dist-info", "mine.egg-info", "Mine-1.0.dist-info"])
def test_metadata_in_a_folder_is_found(info: str, tmp_path: Path) -> None:
    (tmp_path / info).mkdir()
    (tmp_path / info / "entry_points.txt").write_text(POINTS)
    assert found(tmp_path / "missing", tmp_path) == ["my_module"]


def test_an_egg_and_a_zip_are_found(tmp_path: Path) -> None:
    info = tmp_path / "mine-1.0.egg" / "EGG-INFO"
    info.mkdir(parents=True)
    (info / "entry_points.txt").write_text(POINTS)
    (info / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    assert found(info.parent) == ["my_module"]
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as file:
        file.writestr("mine-1.0.dist-info/entry_points.txt", POINTS)
        file.writestr("mine-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    assert found(tmp_path / "mine.zip") == ["my_module"]


def test_a_finder_of_another_kind_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere(Distribution):
        def read_text(self, filename: str) -> str | None:
            return {"entry_points.txt": POINTS, "METADATA": "Name: mine\n"}.get(filename)

        def locate_file(self, path: object) -> Path:
            return tmp_path / str(path)

    class Finder(PathFinder):
        @classmethod
        def find_distributions(cls, context: object = None) -> list[Distribution]:
            return [Elsewhere()]

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    assert found(tmp_path) == ["my_module"]
