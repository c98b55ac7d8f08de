"""The script that makes the pictures of `photographs`: what it takes, from whom, what it draws, and what it refuses."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "photographs.py"
COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2024, All of Them
License: CC0-1.0

Files: 16.04/Wine_by_Jakkub_Mede.jpg
Copyright: Jakub Mede, 2018
License: CC-BY-4.0

Files: debian/*
Copyright: 2024, The Packager
License: GPL-2+
"""


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("photographs", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def unpacked(script: ModuleType, tmp_path: Path) -> Path:
    folder = tmp_path / "unpacked"
    for package, names in script.PICTURES.items():
        for path in (*(f"backgrounds/{name}.jpg" for name in names), f"doc/{package}/copyright"):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(COPYRIGHT if path.endswith("copyright") else path)
    return folder


def test_the_pictures_are_copied_with_author_and_license(
    script: ModuleType, unpacked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("saturnian-profile", "new"):
        (unpacked / "backgrounds" / f"{name}.jpg").touch()
    script.DRAWINGS = script.SCREENS = 1
    script.main(unpacked, unpacked.parent / "photographs")
    names = {f"{name}.jpg" for names in script.PICTURES.values() for name in names}
    assert {path.name for path in (unpacked.parent / "photographs").iterdir()} == {
        *names,
        "ATTRIBUTION.txt",
        "drawing-0.png",
        "screen-0.png",
    }
    lines = (unpacked.parent / "photographs" / "ATTRIBUTION.txt").read_text().splitlines()
    assert {line.partition(":")[0] for line in lines[2:]} == names
    holders = {line.partition(": ")[0]: line.partition(": ")[2].split(", https")[0] for line in lines[2:]}
    assert holders["Wine_by_Jakkub_Mede.jpg"] == "Jakub Mede, 2018; CC-BY-4.0"
    assert holders["canyon-wren.jpg"] == "2024, All of Them; CC0-1.0"
    assert capsys.readouterr().out.endswith(
        "27 pictures of packages, 2 drawings\nnot taken, since nobody has looked: new\n"
    )


def test_another_license_is_refused(script: ModuleType, unpacked: Path) -> None:
    path = unpacked / "doc" / "lomiri-wallpapers-16.04" / "copyright"
    path.write_text(COPYRIGHT.replace("CC-BY-4.0", "CC-BY-SA-4.0"))
    with pytest.raises(
        SystemExit, match=r"Wine_by_Jakkub_Mede\.jpg has the license CC-BY-SA-4\.0, expected CC0-1\.0 or"
    ):
        script.main(unpacked, unpacked.parent / "photographs")
