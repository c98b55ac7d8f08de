"""The guides say what is so. That their commands and code run, another test tries."""

import contextlib
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import ncsnx
from ncsnx.config import Grid, Sampler
from ncsnx.config.discovery import resolve
from ncsnx.config.variants import variants
from ncsnx.errors import UsageError
from ncsnx.evaluation.memorizing import verdict
from tests.cli.command import run
from tests.docs.execution import write_photographs

ROOT = Path(__file__).parent.parent


def guide(name: str) -> str:
    return (ROOT / "docs/guides" / f"{name}.md").read_text()


def test_the_experiment_shown_is_the_one_that_is_trained() -> None:
    assert (ROOT / "experiments/bedroom128.py").read_text() in guide("configuration")


def test_the_page_on_versions_lists_the_python_api() -> None:
    page = (ROOT / "docs/project/versions.md").read_text()
    listed = re.search(r"What `ncsnx.__all__` lists: (.*?)\.\n", page, re.S)
    assert listed is not None
    assert re.findall(r"`(\w+)`", listed[1]) == ncsnx.__all__


def test_docstrings_hold_no_markup_of_the_site() -> None:
    texts = {path: path.read_text() for path in (ROOT / "ncsnx").rglob("*.py")}
    assert [path for path, text in texts.items() if ":doc:" in text] == []


def test_an_override_that_is_refused_is_refused_in_the_words_shown() -> None:
    shown = re.findall(r"^\$ ncsnx train (\S+) (.*)\nerror: (.*)$", guide("configuration"), re.M)

    assert len(shown) >= 3
    for name, overrides, message in shown:
        with pytest.raises(UsageError, match=f"^{re.escape(message)}"):
            resolve(name, overrides.split())


@pytest.mark.parametrize("family", [Sampler, Grid])
def test_every_sampler_and_grid_has_a_row(family: type[Any]) -> None:
    rows = re.findall(r"^\| `([a-z-]+)`", guide("samplers"), re.M)

    own = {tag for tag, found in variants(family).items() if found.__module__.startswith("ncsnx.")}
    assert own
    assert own <= set(rows)


def test_what_new_and_pack_write_is_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photographs(tmp_path / "photographs")
    monkeypatch.chdir(tmp_path)
    experiment, packing = (part.split("```")[0] for part in guide("own-images").split("```text\n")[1:])

    new = run("new", "mine", "--from", "photographs", "--no-timing")
    pack = run("data", "pack", "photographs", "--size", "16", "--out", "photographs.pack")

    assert (new.code, pack.code) == (0, 0)
    assert experiment in (tmp_path / "experiments" / "mine.py").read_text()
    assert packing in pack.out + pack.err


def test_the_verdict_shown_is_in_the_words_of_neighbors() -> None:
    plain = SimpleNamespace(pairs_probability=0.5, tail_probability=0.5, near=SimpleNamespace(high=0.056))
    space: Any = SimpleNamespace(distance=plain, relative=plain)

    assert f"*{verdict({'pixels': space}, 64, 299).words}*" in " ".join(guide("neighbors").split())


def test_the_operator_of_ones_own_measures_what_it_says(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NCSNX_RUNS", raising=False)
    blocks = [part.split("```")[0] for part in guide("inverse-problems").split("```python\n")[1:]]
    (block,) = [block for block in blocks if "LinearOperator" in block]
    names: dict[str, Any] = {}
    with contextlib.chdir(trained):
        exec(compile(block, "inverse-problems.md", "exec"), names)

    images, truth = names["images"], names["truth"]
    assert images.shape == (8, 1, 8, 8)
    away = images.sum(dim=(1, 3)) - truth.sum(dim=(1, 3)).repeat_interleave(4, 0)
    # a hardly trained network is far from the sums; the last level has a noise of 0.01 too
    assert float(away.abs().max()) < 0.2
    assert not torch.equal(images[0], images[1])
