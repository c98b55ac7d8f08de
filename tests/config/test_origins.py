"""Origins of values: default, the line that registers the experiment, or the command line."""

from pathlib import Path

import pytest

from ncsnx.config.codec import flatten
from ncsnx.config.converter import unstructure
from ncsnx.config.discovery import resolve
from tests.config.examples import line_of

BASE = """\
import attrs

from ncsnx.config import CIFAR10, Adam, AnnealedLangevin, Experiment, Geometric, NCSNv2, Snapshots, register

base = Experiment(
    name="base",
    data=CIFAR10(random_flip=True),
    schedule=Geometric(sigma_max=50.0, levels=232),
    model=NCSNv2(width=64),
    optimizer=Adam(lr=2e-4),
    sampler=AnnealedLangevin(step_size=6.2e-6, steps_per_level=5),
    steps=1_000,
)
"""
REGISTERED = "register(base)"
OFF = "register(attrs.evolve(base, ema=None, snapshots=Snapshots(n=9)))"


@pytest.mark.parametrize(
    ("code", "overrides", "typed", "written", "default"),
    [
        (
            REGISTERED,
            "",
            "",
            "name data data.random_flip schedule.sigma_max schedule.levels optimizer optimizer.lr steps",
            "data.root schedule.sigma_min optimizer.eps ema.rate loss.power snapshots.n batch_size",
        ),
        ("register(attrs.evolve(base, **dict(seed=9) | dict(log_every=3)))", "", "", "seed log_every", "eval_every"),
        (
            REGISTERED,
            "optimizer=sgd optimizer.momentum=0.8 steps=50k schedule=uniform",
            "optimizer optimizer.momentum steps schedule",
            "schedule.sigma_max model.width",  # kept by the swap, as it has no default
            "optimizer.lr schedule.sigma_min",
        ),
        (REGISTERED, "ema=none", "ema", "name", "seed"),
        (OFF, "", "", "ema snapshots.n", "snapshots.every"),
        (OFF, "ema.rate=0.5 snapshots.every=2", "ema.rate snapshots.every", "snapshots.n", "seed"),
    ],
    ids=["a file", "evolved", "another variant", "off", "off in the file", "on again"],
)
def test_a_value_is_a_default_typed_or_of_the_line_that_registers(
    code: str, overrides: str, typed: str, written: str, default: str, tmp_path: Path
) -> None:
    file = tmp_path / "experiment.py"
    file.write_text(f"{BASE}\n{code}\n")
    found = resolve(str(file), overrides.split())
    assert set(found.origins) == {path for path, _ in flatten(unstructure(found.experiment))}
    assert {found.origins[path] for path in typed.split()} <= {"command line"}
    assert {found.origins[path] for path in written.split()} == {line_of(file, "register(")} == {found.where}
    assert {found.origins[path] for path in default.split()} == {"default"}


def test_each_experiment_of_a_loop_has_the_line_of_its_register(tmp_path: Path) -> None:
    file = tmp_path / "experiment.py"
    loop = 'for width in (32, 48):\n    register(attrs.evolve(base, name=f"width{width}", model=NCSNv2(width=width)))\n'
    file.write_text(f"{BASE}\n{loop}")
    for width in (32, 48):
        found = resolve(f"{file}:width{width}")
        assert found.experiment.model.width == width
        assert found.origins["model.width"] == found.where == line_of(file, "    register(")
