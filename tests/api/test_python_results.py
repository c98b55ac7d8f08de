"""Measured and drawn from Python as by commands: equal numbers, typed, shown without markup of others."""

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ncsnx
from ncsnx.config import Classifier, ConsistentAnnealed
from ncsnx.errors import UsageError
from ncsnx.images import ImageBatch
from ncsnx.jobs.training_job import TrainedRun
from ncsnx.results import Table
from ncsnx.runs.folder import Run
from ncsnx.runs.ledger import Ledger
from tests.training.tiny import command

FEATURES = Classifier(steps=20, width=8)
TYPED = ("features.steps=20", "features.width=8")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_scores_are_those_that_the_command_keeps(run: Run, cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = ncsnx.fid(run, range="8:12", n=12, features=FEATURES, cache=cache)

    assert tuple(capfd.readouterr()) == ("", "")
    (series,) = Ledger.read(run).series("fid")
    assert [(one.step, one.score, one.weights_sha256) for one in found.rows] == [
        (entry.step, entry.score, entry.subject.weights_sha256) for entry in series.entries
    ]
    assert found.best == min(found.rows, key=lambda one: one.score or 0.0)
    assert (found.folder, found.protocol, found.caption) == (series.folder, series.facts, series.caption)
    assert found.protocol["n"] == 12
    assert all(one.error is not None and one.error > 0 for one in found.rows)
    assert found.rows[0].sampler == run.experiment().sampler
    typed = command(
        "fid", str(run.path), *TYPED, "--range", "8:12", "--n", "12", "--cache", str(cache), folder=run.path
    )
    assert "2 checkpoints already measured" in typed.err
    shown = found._repr_html_()
    (table,) = found.shown()
    assert isinstance(table, Table)
    assert all(cell in shown for cell in table.rows[0])
    assert "perfect model" in shown


def test_a_comparison_lists_the_runs_own_sampler_first(run: Run, cache: Path) -> None:
    found = ncsnx.compare(run, n=10, seeds=1, samplers=["cas"], evaluations=[4], features=FEATURES, cache=cache)

    assert found.rows[0].sampler == run.experiment().sampler
    assert {type(one.sampler) for one in found.rows[1:]} == {ConsistentAnnealed}
    assert found.recommended is None
    assert "no setting with at most" in found.reason
    assert (found.folder / "scores.csv").is_file()
    (table,) = found.shown()
    assert isinstance(table, Table)
    assert table.columns[0].title in found._repr_html_()


def test_restored_images_agree_and_are_where_they_say(run: Run, tmp_path: Path) -> None:
    picture, mask = np.full((8, 8), 200), np.zeros((8, 8), np.uint8)
    mask[4:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")

    found = ncsnx.restore(
        run, inpaint=picture / 255, mask=tmp_path / "mask.png", truth=picture / 255, n=3, posterior=True
    )

    images = found.tensor()
    assert images.shape == (3, 1, 8, 8)
    assert torch.allclose(torch.Tensor(images[:, :, :4]), torch.tensor(200 / 255), atol=1e-5)
    assert [path.is_file() for path in (*found.images, found.grid)] == [True] * 4
    assert found.misfit < 1e-5
    maps = found.maps()
    assert torch.allclose(maps.quantiles[0.5], torch.Tensor(images).median(dim=0).values, atol=1e-6)
    assert found.calibration is not None
    assert (found.calibration.values, found.calibration.left_out) == (32, 32)
    assert found.calibration_plot is not None
    assert found.calibration_plot.is_file()
    assert found.pictures[0].distances["ssim_of_mean"] is not None
    assert "truths inside" in found._repr_html_()
    assert "data:image/png;base64," in found._repr_html_()


def test_pictures_are_files_or_objects_in_memory(run: Run, tmp_path: Path) -> None:
    pixels, mask = np.arange(64, dtype=np.uint8).reshape(8, 8), np.zeros((8, 8), np.uint8)
    mask[:, 4:] = 255
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    tensor = torch.from_numpy(pixels / 255)
    few = ConsistentAnnealed(steps=2)
    forms: list[tuple[Any, Any]] = [
        (tmp_path / "picture.png", tmp_path / "mask.png"),
        (Image.fromarray(pixels), Image.fromarray(mask)),
        (pixels / 255, mask / 255),
        (tensor[None], torch.from_numpy(mask) > 0),
        (tensor[None, None], (4, 0, 8, 8)),
    ]
    drawn = [
        ncsnx.restore(run, inpaint=picture, mask=hole, truth=picture, n=1, sampler=few, out=tmp_path / str(place))
        for place, (picture, hole) in enumerate(forms)
    ]
    for other in drawn[1:]:
        assert torch.equal(other.tensor(), drawn[0].tensor())
    with pytest.raises(UsageError, match=r"^inpaint must be a path, a Pillow image, an array or a tensor, not 3"):
        ncsnx.restore(run, inpaint=3, mask=mask)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"^measure must be a path or text or None"):
        ncsnx.restore(run, measure=tensor)  # type: ignore[arg-type]


def test_images_are_a_tensor_that_shows_itself(trained: TrainedRun) -> None:
    model = ncsnx.load(trained.run)
    images = ncsnx.draw(model, n=5, seed=3, progress=True)

    assert isinstance(images, ImageBatch)
    assert torch.equal(images, ncsnx.draw(model, n=5, seed=3))
    assert isinstance(images[1:3], ImageBatch)
    assert [type(other) for other in (images[0], images.mean(), images + 1)] == [torch.Tensor] * 3
    shown = images._repr_html_()
    assert shown is not None
    assert 'alt="5 images of 1×8×8"' in shown
    assert images[:0]._repr_html_() is None
    for size in ("16", (16,), (0, 8), (8, 16_385), (16, 24.0)):
        with pytest.raises(UsageError, match=r"^size (must be an int or two ints|.*: expected a number of pixels, or)"):
            ncsnx.draw(model, n=1, size=size)  # type: ignore[arg-type]
    assert "EMA weights" in model._repr_html_()


def test_what_is_not_shown_goes_to_the_logger(trained: TrainedRun, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ncsnx")
    ncsnx.draw(ncsnx.load(trained.run), n=1)

    assert {record.message[:8] for record in caplog.records} == {"sampling"}


@pytest.mark.parametrize(
    ("function", "wrong", "message"),
    [
        (ncsnx.fid, {"n": 16.5}, "^n must be an int, not 16.5"),
        (ncsnx.fid, {"n": np.int64(5)}, "^n must be between 10 and 10,000,000, not 5$"),
        (ncsnx.fid, {"n": np.float32(16)}, "^n must be an int, not"),
        (ncsnx.fid, {"sampler": "heun"}, r"^sampler must be a configuration such as ncsnx.config.Heun\(\), or"),
        (ncsnx.fid, {"features": "abacus"}, "^features: expected one of inception"),
        (ncsnx.draw, {}, r"^model must be a Model, such as ncsnx.load\('digits'\), not Run"),
        (ncsnx.restore, {"outpaint": "p.png", "at": (1,)}, "^at must be two ints or None"),
        (ncsnx.compare, {"evaluations": 0}, "^evaluations must be between 1 and"),
        (ncsnx.restore, {"inpaint": "p.png", "mask": "m.png", "at": (1, 1)}, "^at goes with outpaint, which is not"),
    ],
    ids=lambda value: value.__name__ if callable(value) else str(value),
)
def test_a_mistake_names_its_argument(function: Any, wrong: dict[str, Any], message: str, trained: TrainedRun) -> None:
    before = sorted(trained.run.path.rglob("*"))
    with pytest.raises(ncsnx.NcsnxError, match=message):
        function(trained.run, **wrong)
    assert sorted(trained.run.path.rglob("*")) == before


def test_an_experiment_is_found_and_shown_without_torch(tmp_path: Path) -> None:
    code = """
import re, sys
import ncsnx
assert {name.partition(".")[0] for name in sys.modules} & {"attrs", "cattrs", "rich", "torch"} == set()
shown = ncsnx.experiment("digits", "steps=77")._repr_html_()
assert re.search(r"steps</td>.*?77</td>.*?></td>", shown)
assert re.search(r"clip_norm</td>.*?None</td>.*?default</td>", shown)
assert not {"IPython", "rich", "torch"} & set(sys.modules)
"""
    environment = {"PYTHONPATH": str(Path(ncsnx.__file__).parents[1]), "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
