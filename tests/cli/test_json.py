"""The keys of what `--json` prints, which scripts read: those of every command are in tests/golden/json_keys.json."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from PIL import Image

from ncsnx.tracking import tracker
from tests.cli.test_help import COMMANDS
from tests.published import golden_path
from tests.training.tiny import CPU, command, overrides

GOLDEN = Path(__file__).parent.parent / "golden/json_keys.json"
JUDGE = ("features.steps=30", "features.width=8")
CALLS: dict[str, tuple[str, ...]] = {
    "compare": ("digits", "--n=10", "--samplers=heun", "--evaluations=5", "--seeds=2", *JUDGE, *CPU),
    "data check": ("digits",),
    "data pack": ("digits", "--out=digits.pack"),
    "data show": ("digits",),
    "diff": ("digits", "runs/digits"),
    "doctor": ("digits",),
    "export": ("digits", "--out=model"),
    "fid": ("digits", "--n=10", "--metrics=all", *JUDGE, *CPU),
    "import": (str(golden_path("ncsnv2")), "cifar10", "model.width=4", "schedule.levels=10"),
    "likelihood": ("digits", "--n=2", "--tolerance=0.1", "--range=latest", *CPU),
    "list": (),
    "loss": ("digits", "--range=latest", "--passes=1", *CPU),
    "neighbors": ("digits", "--n=4", "--k=2", *JUDGE, *CPU),
    "new": ("mine", "--from=pictures", "--no-timing"),
    "plan": ("digits", "--no-timing"),
    "reference": ("digits", *JUDGE),
    "report": ("digits",),
    "restore": (
        "digits",
        "--inpaint=pictures/9.png",
        "--mask=5,0,8,2",
        "--n=1",
        "--posterior",
        "sampler.steps=10",
        *CPU,
    ),
    "sample": ("digits", "--n=1", *CPU),
    "show": ("digits",),
    "sweep": ("digits", *overrides("steps=1"), "optimizer.lr=1e-3,1e-4", "--loss", "--no-report", *CPU),
    "track": ("digits", "--to=kept"),
    "train": ("digits", *overrides(), *CPU),
}
OPEN = (
    "best",
    "configuration",
    "experiment",
    "features",
    "labels",
    "made",
    "measured",
    "protocol",
    "sampler",
    "setting",
)
"""Keys of objects whose own keys follow from an experiment, from a metric or from the data."""


@pytest.fixture(scope="module")
def folder(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `trained` with pictures, in which all commands run."""
    folder = Path(shutil.copytree(trained, tmp_path_factory.mktemp("json") / "work"))
    (folder / "pictures").mkdir()
    for shade in range(30):
        Image.new("L", (8, 8), 8 * shade).save(folder / f"pictures/{shade}.png")
    return folder


def keys(value: object, path: str = "") -> Iterator[str]:
    """The path of each value, without the places in lists."""
    if isinstance(value, dict) and path.rpartition(".")[2] not in OPEN:
        for key, item in value.items():
            yield from keys(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for item in value:
            yield from keys(item, f"{path}[]")
    else:
        yield path


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tracker `kept`, which forgets everything."""
    tracker.all_trackers()  # modules are imported once, so not while the registry is another
    monkeypatch.setattr(tracker, "_trackers", dict(tracker._trackers))

    @tracker.tracker("kept")
    class Kept(tracker.Tracker):
        hint = "nowhere"

        def __init__(self, run: tracker.TrackedRun) -> None:
            pass

        def numbers(self, step: int, values: Mapping[str, float]) -> None:
            pass

        def image(self, step: int, name: str, file: Path) -> None:
            pass

        def close(self) -> None:
            pass


@pytest.mark.parametrize("name", CALLS)
def test_the_keys_of_the_json_of_a_command_stay(name: str, folder: Path) -> None:
    result = command(*name.split(), *CALLS[name], "--json", folder=folder).done()
    assert sorted(set(keys(json.loads(result.out)))) == json.loads(GOLDEN.read_text())[name]


def test_every_command_with_json_has_its_keys_there() -> None:
    found = {words.removeprefix("ncsnx ") for words, one in COMMANDS.items() if "json" in {p.name for p in one.params}}
    assert found - {"data download", "page"} == set(CALLS) == set(json.loads(GOLDEN.read_text()))
