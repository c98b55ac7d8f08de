"""Experiments and experiment files for the tests of the configuration."""

import json
from functools import cache
from pathlib import Path

import attrs

from ncsnx.config import AnnealedLangevin, Digits, Experiment, Geometric, NCSNv2
from ncsnx.config.codec import CONFIG_VERSION
from ncsnx.config.converter import structure
from ncsnx.config.variants import VERSION

FROZEN = json.loads((Path(__file__).parent / "saved" / "v1.json").read_text())
"""Written by the first ncsnx that had each variant. Its content may never change; a new variant or field adds a case, a
new version of the form another file."""

FILE = """\
from ncsnx.config import Adam, AnnealedLangevin, Digits, Experiment, Geometric, NCSNv2, register

experiment = register(
    Experiment(
        name="NAME",
        data=Digits(),
        schedule=Geometric(sigma_max=5.0, sigma_min=0.01, levels=24),
        model=NCSNv2(width=32),
        optimizer=Adam(lr=1e-3),
        sampler=AnnealedLangevin(step_size=2.4e-5, steps_per_level=5),
        batch_size=128,
        steps=1_500,
    )
)
"""
"""A valid experiment file; its experiment is called NAME."""


def write_file(path: Path, *changes: tuple[str, str], name: str | None = None) -> Path:
    """Writes FILE to `path`, named after it, with each (old, new) replaced; every `old` must occur."""
    text = FILE.replace("NAME", name or path.stem)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def line_of(path: Path, fragment: str, occurrence: int = 1) -> str:
    """FILE:LINE of the n-th line that contains `fragment`."""
    numbers = [number for number, line in enumerate(path.read_text().splitlines(), start=1) if fragment in line]
    return f"{path}:{numbers[occurrence - 1]}"


def minimal() -> Experiment:
    """An experiment with its required fields only."""
    return Experiment(
        name="minimal",
        data=Digits(),
        schedule=Geometric(sigma_max=5.0, levels=24),
        model=NCSNv2(),
        sampler=AnnealedLangevin(step_size=2e-5, steps_per_level=5),
        steps=1_500,
    )


@cache
def every_variant() -> dict[str, Experiment]:
    """Experiments that together have every built-in variant, and every field at a value other than its default."""
    return {case: from_json(frozen["saved"]) for case, frozen in FROZEN["complete"].items()}


@attrs.frozen(kw_only=True)
class SavedExperiment:
    """What `to_json` gives for an experiment."""

    schema_version: int = attrs.field(default=CONFIG_VERSION, metadata=VERSION)
    experiment: Experiment


def from_json(saved: object) -> Experiment:
    """The experiment of a saved form. Raises StructureError."""
    return structure(saved, SavedExperiment).experiment
