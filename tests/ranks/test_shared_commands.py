"""Commands that share images among ranks give what one process gives, and survive the end of a rank."""

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.ranks.launched import finish, launch, ranks_of, result_of, wait_until
from tests.training.tiny import CPU, Result, attempt, command, files

pytestmark = pytest.mark.ranks
RUN = "runs/digits"
QUICK = ("features.steps=30", "features.width=8")
FID = ("fid", "digits", "--n", "40", "--batch-size", "4", *QUICK, *CPU)
SLOW = ("sampler.steps_per_level=15",)
"""Makes each batch take a moment, so that there is a middle of a sweep."""
STOP_S = 30.0
"""torchrun kills ranks that are still there 30 seconds after SIGTERM."""


@pytest.fixture
def sharing(workplace: Path, tmp_path: Path) -> Path:
    """A copy of `workplace` for the ranks."""
    return Path(shutil.copytree(workplace, tmp_path / "sharing"))


def succeeded(result: Result) -> Result:
    assert result.code == 0, result.err
    return result


def rows(result: Result) -> Any:
    """The rows that --json prints, without the remarks on how they came about."""
    found = json.loads(succeeded(result).out)["rows"]
    return [{key: one for key, one in row.items() if key not in ("made", "seconds")} for row in found]


def without_remarks(found: dict[str, bytes]) -> dict[str, bytes]:
    """Files without those that tell of the machine and the time."""
    return {name: content for name, content in found.items() if not name.endswith(("protocol.json", "task.json"))}


IMAGES = {
    "frames": ("sample", "digits", "--n", "10", "--batch-size", "4", "--frames", "3"),
    "restored": ("restore", "digits", "--super-resolve", "small.png", "--factor", "2", "--n", "6", "--batch-size", "2"),
    "rows": ("sample", "digits", "--n", "3", "--interpolate", "3", "--batch-size", "3"),
    "by class": (
        *("sample", "digits-by-class", "--n", "10", "--batch-size", "4"),
        *("sampler.classes=3,1,4", "sampler.guidance=2", "sampler.steps=3"),
    ),
}
CONDITIONAL = (
    *("train", "digits_edm", "model.width=4", "model.multipliers=1,2", "model.classes=10", "batch_size=16"),
    *("steps=2", "checkpoint_every=2", "snapshots=none", "--run", "digits-by-class"),
)


@pytest.mark.parametrize("kind", IMAGES)
def test_images_are_those_of_one_process(kind: str, workplace: Path, sharing: Path) -> None:
    for folder in (workplace, sharing):
        Image.new("L", (4, 4), 128).save(folder / "small.png")
        if kind == "by class":
            succeeded(command(*CONDITIONAL, *CPU, folder=folder))
    words = (*IMAGES[kind], "--out", "out", *CPU)
    succeeded(command(*words, folder=workplace))
    if kind == "rows":  # with a process for each GPU, instead of a launcher
        succeeded(attempt(*words, "--gpus", "3", folder=sharing))
    else:
        assert succeeded(finish(*words, folder=sharing)).err.count(" from runs/digits") == 1, "one rank speaks"
    assert without_remarks(files(sharing / "out")) == without_remarks(files(workplace / "out"))
    assert not (sharing / "out/.frames").exists()


ROWS = {
    "loss": ("loss", "digits", "--passes", "2", "--batch-size", "64", *CPU),
    "likelihood": ("likelihood", "digits", "--n", "6", "--batch-size", "2", "--tolerance", "0.1", *CPU),
    "fid, with a reference that the ranks build": (*FID, "--metrics", "all"),
    "comparison": (
        *("compare", "digits", "--samplers", "cas,dpmpp", "--evaluations", "2", "--n", "20", "--seeds", "2"),
        *("--batch-size", "5", *QUICK, *CPU),
    ),
}


@pytest.mark.parametrize("words", ROWS.values(), ids=ROWS)
def test_rows_are_those_of_one_process(
    words: tuple[str, ...], workplace: Path, sharing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shared-cache").mkdir()
    monkeypatch.setenv("NCSNX_CACHE", str(tmp_path / "shared-cache"))
    found = rows(finish(*words, "--json", folder=sharing))
    monkeypatch.setenv("NCSNX_CACHE", str(tmp_path / "cache"))
    shutil.copytree(tmp_path / "shared-cache", tmp_path / "cache", ignore=shutil.ignore_patterns("references"))
    expected = rows(command(*words, "--json", folder=workplace))
    for row in (*found, *expected):
        (row.get("measured_again") or {}).pop("seconds", None)
    assert found == expected
    assert list((sharing / RUN).glob("*/*/.parts/*")) == []


def test_neighbors_are_those_of_one_process(workplace: Path, sharing: Path) -> None:
    words = ("neighbors", "digits", "--n", "6", "--k", "3", "--batch-size", "2", *QUICK, *CPU)
    succeeded(command(*words, folder=workplace))
    succeeded(finish(*words, folder=sharing))
    found, expected = (files(folder / RUN / "neighbors") for folder in (sharing, workplace))
    assert found.keys() == expected.keys()
    assert len(found) == 4
    for name in found:
        if name.endswith(("distances.csv", "grid.png")):
            assert found[name] == expected[name]


# ---------------------------------------------------------------------------------------------------- ends of ranks


@pytest.fixture(scope="module")
def expected(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The rows of a sweep in one process."""
    folder = tmp_path_factory.mktemp("expected")
    shutil.copytree(trained, folder, dirs_exist_ok=True)
    return rows(command(*FID, *SLOW, "--json", folder=folder))


def parts(folder: Path) -> dict[str, int]:
    """Time of each finished batch of a sweep, by path."""
    found = (folder / RUN / "fid").glob("*/.parts/*/*.safetensors")
    return {str(path): path.stat().st_mtime_ns for path in found}


@pytest.mark.parametrize(("rank", "later"), [(1, 3), (0, 1), (0, 2)])
def test_a_sweep_whose_rank_is_killed_resumes(rank: int, later: int, expected: Any, workplace: Path) -> None:
    with launch(*FID, *SLOW, folder=workplace) as launcher:
        wait_until(lambda: len(parts(workplace)) >= 3, launcher)
        os.kill(ranks_of(launcher)[rank], signal.SIGKILL)
        begun = time.monotonic()
        result = result_of(launcher)
    assert result.code == 1
    assert time.monotonic() - begun < STOP_S
    kept = parts(workplace)
    assert len(kept) >= 3
    words = (*FID, *SLOW, "--json")
    with launch(*words, folder=workplace, ranks=later) as launcher:
        wait_until(lambda: len(parts(workplace)) > len(kept), launcher)
        assert kept.items() <= parts(workplace).items(), "finished batches aren't made again"
        again = result_of(launcher)
    assert rows(again) == expected
    assert list((workplace / RUN / "fid").glob("*/.parts/*")) == []


@pytest.mark.parametrize("rank", [0, 1])
def test_sigterm_to_one_rank_ends_all_and_keeps_finished_batches(rank: int, expected: Any, workplace: Path) -> None:
    with launch(*FID, *SLOW, folder=workplace) as launcher:
        wait_until(lambda: len(parts(workplace)) >= 3, launcher)
        os.kill(ranks_of(launcher)[rank], signal.SIGTERM)
        begun = time.monotonic()
        result = result_of(launcher)
    assert time.monotonic() - begun < STOP_S
    assert "exitcode  : 143" in result.err, result.err
    assert "stopped by SIGTERM; finished batches are kept, and the same command resumes after them" in result.err
    assert "error: " not in result.err
    assert len(parts(workplace)) >= 3
    assert rows(finish(*FID, *SLOW, "--json", folder=workplace)) == expected
