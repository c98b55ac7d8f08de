"""Origins of values: default, a line of a file, or the command line."""

from pathlib import Path

import pytest

from ncsnx.config.codec import flatten
from ncsnx.config.converter import unstructure
from ncsnx.config.discovery import Resolved, resolve
from tests.config.examples import line_of

IMPORTS = """\
import attrs

from ncsnx.config import (
    CIFAR10, SGD, Adam, AnnealedLangevin, Digits, Ema, Experiment, Geometric, NCSNv2, Snapshots, Uniform, register,
)

base = Experiment(
    name="base",
    data=CIFAR10(
        random_flip=True,
    ),
    schedule=Geometric(
        sigma_max=50.0,
        levels=232,
    ),
    model=NCSNv2(width=64),
    optimizer=Adam(
        lr=2e-4,
    ),
    sampler=AnnealedLangevin(step_size=6.2e-6, steps_per_level=5),
    steps=1_000,
)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "experiment.py"


def resolved(file: Path, code: str, *overrides: str) -> dict[str, str]:
    """Origins of the experiment that IMPORTS and `code` register."""
    file.write_text(f"{IMPORTS}\n{code}\n")
    return checked(resolve(str(file), list(overrides))).origins


def checked(found: Resolved) -> Resolved:
    """Checks that every value, and nothing else, has an origin."""
    assert set(found.origins) == {path for path, _ in flatten(unstructure(found.experiment))}
    return found


def test_a_value_has_the_line_of_its_own_keyword_and_defaults_say_so(file: Path) -> None:
    origins = resolved(file, "register(base)")
    assert origins["name"] == line_of(file, 'name="base"')
    assert origins["data"] == line_of(file, "data=CIFAR10")
    assert origins["data.random_flip"] == line_of(file, "random_flip=True")
    assert origins["data.root"] == "default"
    assert origins["schedule.sigma_max"] == line_of(file, "sigma_max=50.0")
    assert origins["schedule.levels"] == line_of(file, "levels=232")
    assert origins["schedule.sigma_min"] == "default"
    assert origins["optimizer"] == line_of(file, "optimizer=Adam")
    assert origins["optimizer.lr"] == line_of(file, "lr=2e-4")
    assert origins["optimizer.eps"] == "default"
    assert origins["ema.rate"] == "default"
    assert origins["loss.power"] == "default"
    assert origins["snapshots.n"] == "default"
    assert origins["batch_size"] == "default"


def test_an_evolve_of_an_evolve_remembers_each_step(file: Path) -> None:
    origins = resolved(
        file,
        """\
second = attrs.evolve(
    base,
    optimizer=attrs.evolve(
        base.optimizer,
        eps=1e-3,
    ),
    ema=attrs.evolve(base.ema, rate=0.99),
)
register(attrs.evolve(second, name="third"))""",
    )
    assert origins["name"] == line_of(file, 'name="third"')
    assert origins["optimizer"] == line_of(file, "optimizer=attrs.evolve")
    assert origins["optimizer.eps"] == line_of(file, "eps=1e-3")
    assert origins["optimizer.lr"] == line_of(file, "lr=2e-4")
    assert origins["optimizer.beta1"] == "default"
    assert origins["ema.rate"] == line_of(file, "rate=0.99")
    assert origins["steps"] == line_of(file, "steps=1_000")
    assert origins["batch_size"] == "default"


def test_a_helper_function_is_where_its_values_are_written(file: Path) -> None:
    origins = resolved(
        file,
        """\
def variant_of(experiment, *, lr):
    changed = attrs.evolve(experiment.optimizer, lr=lr)
    return attrs.evolve(
        experiment,
        optimizer=changed,
    )


register(variant_of(base, lr=0.25))""",
    )
    assert origins["optimizer.lr"] == line_of(file, "lr=lr")
    assert origins["optimizer"] == line_of(file, "optimizer=changed")
    assert origins["model.width"] == line_of(file, "width=64")


def test_a_loop_registers_each_with_its_own_lines(file: Path) -> None:
    file.write_text(
        f"""{IMPORTS}
for width in (32, 48):
    register(
        attrs.evolve(
            base,
            name=f"width{{width}}",
            model=NCSNv2(width=width),
        )
    )
"""
    )
    for width in (32, 48):
        found = checked(resolve(f"{file}:width{width}"))
        assert found.experiment.model.width == width
        assert found.origins["model.width"] == line_of(file, "width=width")
        assert found.where == line_of(file, "    register(")


def test_stars_that_are_computed_in_place_still_give_the_line_of_what_they_change(file: Path) -> None:
    origins = resolved(file, "register(attrs.evolve(base, **dict(seed=9) | dict(log_every=3)))  # here")
    assert (origins["seed"], origins["log_every"]) == (line_of(file, "# here"), line_of(file, "# here"))
    assert origins["steps"] == line_of(file, "steps=1_000")
    assert origins["eval_every"] == "default"


def test_two_calls_on_one_line_are_told_apart(file: Path) -> None:
    origins = resolved(
        file, "first, second = Adam(lr=1.0), Adam(eps=1.0)\nregister(attrs.evolve(base, optimizer=second))"
    )
    assert origins["optimizer.eps"] == line_of(file, "Adam(eps=1.0)")
    assert origins["optimizer.lr"] == "default"


def test_what_an_imported_module_made_before_has_the_line_that_brings_it_in(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "preset_package.py"
    package.parent.mkdir()
    package.write_text("from ncsnx.config import Adam\n\nhot = Adam(lr=0.75)\n")
    monkeypatch.syspath_prepend(package.parent)
    __import__("preset_package")
    origins = resolved(file, "from preset_package import hot\n\nregister(attrs.evolve(base, optimizer=hot))  # here")
    assert origins["optimizer"] == line_of(file, "# here")
    assert origins["optimizer.lr"] == line_of(file, "# here")
    assert origins["optimizer.eps"] == "default"


def test_a_function_of_an_imported_module_is_where_its_values_are_written(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "making_package.py"
    package.parent.mkdir()
    package.write_text("from ncsnx.config import Adam\n\n\ndef make():\n    return Adam(lr=0.75)\n")
    monkeypatch.syspath_prepend(package.parent)
    origins = resolved(file, "from making_package import make\n\nregister(attrs.evolve(base, optimizer=make()))")
    assert origins["optimizer.lr"] == line_of(package, "lr=0.75")


def test_the_command_line_wins_and_a_swap_forgets_the_lines_of_the_old_variant(file: Path) -> None:
    origins = resolved(
        file, "register(base)", "optimizer=sgd", "optimizer.momentum=0.8", "steps=50k", "schedule=uniform"
    )
    assert origins["optimizer"] == "command line"
    assert origins["optimizer.momentum"] == "command line"
    assert origins["optimizer.lr"] == "default"
    assert origins["steps"] == "command line"
    assert origins["schedule"] == "command line"
    assert origins["schedule.sigma_max"] == line_of(file, "sigma_max=50.0"), "kept, as it has no default"
    assert origins["schedule.sigma_min"] == "default"
    assert origins["model.width"] == line_of(file, "width=64")


def test_a_part_that_is_switched_off_and_on_has_its_origin(file: Path) -> None:
    assert resolved(file, "register(base)", "ema=none")["ema"] == "command line"
    code = "register(attrs.evolve(base, ema=None, snapshots=Snapshots(n=9)))  # here"
    origins = resolved(file, code)
    assert origins["ema"] == line_of(file, "# here")
    origins = resolved(file, code, "ema.rate=0.5", "snapshots.every=2")
    assert origins["ema.rate"] == "command line"
    assert origins["snapshots.every"] == "command line"
    assert origins["snapshots.n"] == line_of(file, "# here")
