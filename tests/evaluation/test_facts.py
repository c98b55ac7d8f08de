"""Each field of an experiment that changes what a number means is in the facts by which numbers are compared.

Sweeps rank the settings of one protocol, and only those of which all runs have a number.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import attrs
import pytest

from ncsnx.config import Experiment
from ncsnx.config.codec import flatten
from ncsnx.config.converter import structure, unstructure
from ncsnx.config.data_sets import Dequantization, Transform
from ncsnx.config.discovery import resolve
from ncsnx.config.overrides import parse_overrides
from ncsnx.data import Splits
from ncsnx.errors import NcsnxError
from ncsnx.evaluation.distance import Distance
from ncsnx.evaluation.held_out import HeldOutLoss
from ncsnx.evaluation.likelihood import Likelihood
from ncsnx.features.real_images import DataSource, SplitImages
from ncsnx.model_spec import ModelSpec
from ncsnx.runs.ledger import MeasurementProtocol
from ncsnx.space import Space
from ncsnx.sweeps.comparison import ComparedSettings, RunNumber, compared_settings
from ncsnx.sweeps.points import sweep_points
from tests.config.examples import every_variant

Facts = Callable[..., dict[str, Any]]
"""Facts of an experiment, by default in the space that it declares."""

ELSEWHERE = {"root", "path", "on_error", "gif", "heic"}
"""Fields of data that say which files are read: the fingerprint of their content is a fact."""
PICTURES = {"window_low", "window_high"}
NOT_COMPARED = {"random_flip"}
"""Fields of data for training alone."""
WORDS: dict[str, tuple[object, ...]] = {
    "type": (),  # other variants are other cases
    "dequantization": get_args(Dequantization),
    "transform": get_args(Transform),
    "weighting": ("power", "edm"),
}


def measured(experiment: Experiment, scale: float = 2.0, sigma_data: float = 0.25) -> Space:
    """The space of a run, whose data has these where the experiment declares none."""
    return Space.of(experiment.data, scale=scale, sigma_data=sigma_data)


def source(experiment: Experiment, space: Space) -> DataSource:
    found = DataSource(data=experiment.data, folder=Path(), recorded="f" * 64, space=space)
    held_out: Any = [*range(299)]
    names = tuple(map(str, range(experiment.model.classes)))
    found._splits = Splits(train=held_out, held_out=held_out, fingerprint="f" * 64, class_names=names)
    return found


def given(experiment: Experiment, space: Space) -> dict[str, Any]:
    run = SimpleNamespace(experiment=lambda: experiment)
    return {"run": run, "spec": ModelSpec.of(experiment, space), "runtime": None, "subjects": ()}


def of_loss(experiment: Experiment, space: Space | None = None) -> dict[str, Any]:
    space = space or measured(experiment)
    return HeldOutLoss(source=source(experiment, space), **given(experiment, space)).facts()


def of_likelihood(experiment: Experiment, space: Space | None = None) -> dict[str, Any]:
    class Known(Likelihood):
        gray_levels = 256

    space = space or measured(experiment)
    return Known(source=source(experiment, space), **given(experiment, space)).facts()


def of_split(experiment: Experiment, space: Space | None = None) -> dict[str, Any]:
    return SplitImages(source(experiment, space or measured(experiment)), "train").facts


def of_distance_to_files(experiment: Experiment, space: Space | None = None) -> dict[str, Any]:
    return of_distance(experiment, space, {"kind": "npz"})


def of_distance(
    experiment: Experiment, space: Space | None = None, of_reference: dict[str, Any] | None = None
) -> dict[str, Any]:
    space = space or measured(experiment)
    reference: Any = SimpleNamespace(facts=of_reference or of_split(experiment, space))
    features: Any = SimpleNamespace(facts={"type": "inception"})
    job = Distance(features=features, reference=reference, n=9, batch_size=1, **given(experiment, space))
    return job.facts()


def is_in_loss(path: str, experiment: Experiment) -> bool:
    part, _, name = path.partition(".")
    if path == "data.sigma_data":
        return experiment.loss.weighting == "edm"
    return (
        part in ("schedule", "loss")
        or path == "model.classes"
        or (part == "data" and name not in ELSEWHERE | PICTURES | NOT_COMPARED)
    )


def is_in_likelihood(path: str, experiment: Experiment) -> bool:
    if path in ("schedule.sigma_min", "schedule.sigma_max", "model.classes"):
        return True
    # dequantization is uniform for a density, and unbounded data has none
    others = ("data.sigma_data", "data.dequantization", "data.scale")
    return path.startswith("data.") and path not in others and is_in_loss(path, experiment)


def is_in_distance(path: str, experiment: Experiment) -> bool:
    if path == "sampler.classes":
        return True
    # the window is declared too; noisy images are no reference
    others = ("data.sigma_data", "data.dequantization", "data.transform", "data.scale", "data.noise", "data.gain")
    is_image = path.startswith("data.") and path not in others
    return is_image and (path.partition(".")[2] in PICTURES or is_in_loss(path, experiment))


def others(path: str, value: object) -> Iterator[object]:
    """Other values of a field, some of which may be refused."""
    name = path.rpartition(".")[2]
    if name in WORDS:
        yield from (one for one in WORDS[name] if one != value)
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, value - 1, 2 * value, value // 2)
    elif isinstance(value, float):
        yield from (value * 1.01, value * 0.99, value + 0.01, value / 2)
    elif isinstance(value, str):
        yield from (f"{value}x", "black", "skip", "refuse", "bf16", "fp32")
    elif isinstance(value, list):
        if value and isinstance(value[0], str):
            yield value[::-1]
        else:
            yield [2 * item if isinstance(item, int) else item + 0.25 for item in value]


def varied(experiment: Experiment) -> Iterator[tuple[str, Experiment]]:
    """The experiment with another value of one field, for each field that has another valid one."""
    for path, value in flatten(unstructure(experiment)):
        *parents, name = path.split(".")
        for other in (one for one in others(path, value) if one != value):
            changed = unstructure(experiment)
            place = changed
            for parent in parents:
                place = place[parent]
            place[name] = other
            try:
                yield path, structure(changed, Experiment)
            except NcsnxError:
                continue
            break


@pytest.mark.parametrize(
    ("facts", "is_fact"),
    [(of_loss, is_in_loss), (of_likelihood, is_in_likelihood), (of_distance, is_in_distance)],
    ids=["loss", "likelihood", "fid"],
)
def test_facts_have_every_field_that_changes_a_number(facts: Facts, is_fact: Callable[[str, Experiment], bool]) -> None:
    seen = set[str]()
    for case, experiment in every_variant().items():
        if facts is of_likelihood and not experiment.model.any_sigma:
            continue

        def digest(one: Experiment) -> str:
            return MeasurementProtocol(measure="x", facts=facts(one)).digest

        before = digest(experiment)
        for path, other in varied(experiment):
            seen.add(path)
            assert (digest(other) != before) == is_fact(path, experiment), (case, path)
    assert {"data.scale", "data.low", "data.held_out", "schedule.levels", "loss.power", "optimizer.lr", "seed"} <= seen


@pytest.mark.parametrize(
    ("facts", "case", "name"),
    [
        (of_loss, "complex", "scale"),
        (of_split, "complex", "scale"),
        (of_distance_to_files, "complex", "scale"),
        (of_loss, "edm", "sigma_data"),
    ],
)
def test_a_measured_value_is_the_same_fact_as_a_declared_one(facts: Facts, case: str, name: str) -> None:
    def declaring(value: float | None) -> Experiment:
        return attrs.evolve(experiment, data=attrs.evolve(experiment.data, **{name: value}))

    experiment = every_variant()[case]
    found = [facts(declaring(None), measured(declaring(None), **{name: value})) for value in (2.0, 3.0)]
    assert found == [facts(declaring(value)) for value in (2.0, 3.0)]
    assert found[0] != found[1]


def number_of(measure: str, facts: dict[str, Any], value: float) -> RunNumber:
    own = {"measure": measure, "number": value, **facts}
    return RunNumber(protocol=MeasurementProtocol(measure=measure, facts=facts), value=value, facts=own)


def compared(facts: Facts, *words: str, seeds: int = 1, lacking: int | None = None) -> ComparedSettings:
    """A sweep whose runs measured 0, 1, 2 and so on, in order. lacking: the place of a run without a number."""
    points = sweep_points("digits", resolve("digits").experiment, {}, parse_overrides(list(words)), seeds=seeds)
    measured = {
        point.run: number_of("loss", facts(point.experiment), float(place))
        for place, point in enumerate(points)
        if place != lacking
    }
    states = dict.fromkeys(point.run for point in points)
    return ComparedSettings(name="digits", tables=compared_settings("digits", points, states, {"loss": measured}))


@pytest.mark.parametrize(
    ("facts", "words", "fact"),
    [
        (of_loss, "loss.power=1,2", "loss.power"),
        (of_loss, "schedule.sigma_max=5,6", "schedule.sigma_max"),
        (of_loss, "schedule.levels=10,20", "schedule.levels"),
        (of_loss, "data.transform=none,rescaled", "transform"),
        (of_distance, "data=digits,phantoms", "reference.data"),
    ],
)
def test_settings_of_different_protocols_have_a_table_each_and_no_best(facts: Facts, words: str, fact: str) -> None:
    found = compared(facts, words, "optimizer.lr=1e-3,1e-4")
    assert [len(one.rows) for one in found.tables] == [2, 2]
    assert found.best is None
    (line,) = [line for line in found.closing() if "not ranked together" in line]
    assert fact in line.partition("differ in ")[2].split(", ")


@pytest.mark.parametrize(
    ("facts", "words"),
    [(of_loss, "optimizer.lr=1e-3,1e-4"), (of_loss, "seed=1,2"), (of_distance, "schedule.sigma_max=5,6")],
)
def test_settings_of_one_protocol_have_one_table_and_its_best(facts: Facts, words: str) -> None:
    found = compared(facts, words, "model.width=4,8")
    assert len(found.tables) == 1
    assert found.best is found.tables[0].rows[0]
    assert "number" not in found.tables[0].protocol["loss"], "which is of each run its own"


def test_a_setting_of_which_a_run_has_no_number_comes_last_and_is_not_the_best() -> None:
    found = compared(of_loss, "model.width=4,8", seeds=2, lacking=1)
    assert [row.names for row in found.tables[0].rows] == [("8",), ("4",)]
    assert found.best is not None
    assert found.best.names == ("8",)


def test_a_number_that_one_measure_lacks_makes_no_other_protocol() -> None:
    """A setting has its distance, but its loss diverged."""
    points = sweep_points("digits", resolve("digits").experiment, {}, parse_overrides(["model.width=4,8"]), seeds=1)
    numbers = {
        measure: {point.run: number_of(measure, facts(point.experiment), 1.0) for point in measured}
        for measure, facts, measured in (("fid", of_distance, points), ("loss", of_loss, points[1:]))
    }
    (table,) = compared_settings("digits", points, dict.fromkeys(point.run for point in points), numbers)
    assert len(table.rows) == len(points) == 2
