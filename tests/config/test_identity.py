"""The identity of a run: the fields in it and outside, and that it never changes."""

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import attrs
import pytest

from ncsnx.config import Adam, Arrays, Config, Data, Experiment, LogNormal, Model, NumericData, ScoreMatching
from ncsnx.config.codec import canonical, digest, identifying_values, identity
from ncsnx.config.converter import optional_of, structure, unstructure
from ncsnx.config.discovery import discover
from ncsnx.config.image_sizes import ImageSize
from ncsnx.config.variants import TAG, is_family, variants
from tests.config.examples import every_variant, minimal

FROZEN = {
    "bedroom128": "10d8ca1cefdd8133b4c58b4a171b6e50517ab8b862e1b9d57db69edca60418cd",
    "celeba64": "468c2e40ce431541508c56f299e624ca301eb3524e5c4e0d06b3e5bd9dd68105",
    "church96": "48f9769a3d18d48aad6c3c1db840b2086248ac0c971a69a9e39c17a0758ea9b4",
    "cifar10": "ac4e0e6ba1894ea214d8c9b350239e9e7d8dd9e4d2a1a911286153affd349369",
    "cifar10_ncsn": "7294c5be79f658815e5785d514f065824fc1272af27c1f2b86031b2d24886dae",
    "cifar10_edm": "f1ca8d40fbeebdd0bda421ab68b29319fd6abf8f030dc9306e8eb27b8985191d",
    "digits": "d5f764edb2a1c6e8f2d2fefc057e04ccaa7d8c73191d0036f49ad75275ccee8b",
    "digits_edm": "b3d65d9da5d85d9face6da5ab769978529b674855dd0200ce03e24948d42178a",
    "ffhq256": "2c193b79f7db50d1ab9178271c74975673245117098edbc5acc1bece40220357",
    "phantom64x48": "7d392470bdc90b3fca98f0cfbb3dfd6bdd6b623e606b258b669efcb6fe21ff7f",
    "tower128": "a5b5ed44b80de1bcfee15a445ccfcaf2bd00630a4fd1b0831297013c13a184b0",
}
"""Frozen identities: if one changed, a later ncsnx couldn't resume existing runs."""

FROZEN_OF_OWN_DATA = {
    "images": "1ca8a8006b3feb988801ca74c53a8e61eadfcf34738029a9828ccc0259842b7e",
    "formats": "536bc47eca9f293506e9992598879e862993354e424258b1f7cccc9bdce92975",
    "arrays": "7242af56c437b3bd742fdbd2826bfde3a64dcc6f546d4984319705ba88be18f6",
    "packed": "3f7e13c532a5adff5c16957c10af25d9032a179ef0bf61624f39b5173c110fd0",
}
"""Frozen identities of experiments of `every_variant`, from before their data sets got further fields."""

OUTSIDE = {
    "name",
    "steps",
    "checkpoint_every",
    "eval_every",
    "log_every",
    "snapshots",
    "snapshots.n",
    "snapshots.every",
    "snapshots.sampler",
    "retention.keep_last",
    "retention.keep_every",
    "retention.keep_best",
    "note",
    "data.mean",
    "data.root",
    "data.path",
    "data.on_error",
    "data.gif",
    "data.heic",
    "data.window_low",
    "data.window_high",
    "sampler",
}


def test_the_identities_of_the_built_in_experiments_are_frozen() -> None:
    found = {r.experiment.name: r.experiment for source in discover() if source.file for r in source.file.registered}
    assert {name: identity(experiment) for name, experiment in found.items()} == FROZEN


def test_new_fields_at_their_defaults_leave_the_identity_of_earlier_experiments() -> None:
    found = {name: identity(experiment) for name, experiment in every_variant().items() if name in FROZEN_OF_OWN_DATA}
    assert found == FROZEN_OF_OWN_DATA


def test_a_new_field_is_in_the_identity_once_it_differs_from_its_default() -> None:
    bounded = attrs.evolve(minimal(), data=Arrays(path="scans.npy", image_size=8))
    unbounded = attrs.evolve(bounded, data=attrs.evolve(bounded.data, range="unbounded"))
    scaled = attrs.evolve(bounded, data=attrs.evolve(unbounded.data, scale=2.0))
    pairs = attrs.evolve(bounded, data=attrs.evolve(unbounded.data, channels=2))
    complex_ones = attrs.evolve(bounded, data=attrs.evolve(pairs.data, complex=True))
    assert len({identity(one) for one in (bounded, unbounded, scaled, pairs, complex_ones)}) == 5
    assert "range" not in identifying_values(bounded.data)
    assert identifying_values(scaled.data)["scale"] == 2.0


def _another(value: Any, declared: Any) -> Any:
    """An accepted value of the declared type that isn't `value`."""
    inner = optional_of(declared)
    if is_family(inner) and value is None:
        return {TAG: "cas"} if "cas" in variants(inner) else {TAG: "cosine", "steps": 9}
    if declared == ImageSize:
        return [side // 2 for side in value] if isinstance(value, tuple) else value // 2 or value + 1
    if inner == ImageSize:
        return [9_999, 10_000] if value is None else None
    if inner is not None and value is None:
        return {} if issubclass(inner, Config) else _another({float: 1.0, int: 1}.get(inner, "x"), inner)
    if inner is not None:
        return None
    if get_origin(declared) is Literal:
        return next(option for option in get_args(declared) if option != value)
    changes = {bool: lambda v: not v, int: lambda v: v // 2 or v + 1, float: lambda v: v / 2 or 0.5}
    changes[str] = lambda v: "black" if v.startswith("#") else v + "x"
    changes[tuple[int, ...]] = lambda v: [*v, 2]
    return changes[declared](value)


def _changes(config: Config, values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any], Any]]:
    """(path, the dict that contains it, its new value) for every field of an experiment and its parts."""
    for field in attrs.fields(type(config)):
        path, value = f"{prefix}{field.name}", getattr(config, field.name)
        if field.name in _bound_to_others(config):
            continue
        if is_family(field.type):
            tags = [tag for tag, cls in variants(field.type).items() if not isinstance(value, cls)]
            tags = [tag for tag in tags if not _excluded(config, variants(field.type)[tag])]
            for tag in tags:
                yield path, values, {**_required(variants(field.type)[tag], values[field.name]), TAG: tag}
        elif not isinstance(value, Config) or optional_of(field.type) is not None:
            is_grey = field.name == "channels" and value == 1  # pictures have 1 or 3
            if isinstance(config, Data) and field.name == "mean":
                yield path, values, [0.5] * config.channels
            else:
                yield path, values, 3 if is_grey else _another(value, field.type)
        if isinstance(value, Config):
            yield from _changes(value, values[field.name], f"{path}.")


def _excluded(config: Config, cls: type[Config]) -> bool:
    """Whether a variant doesn't go with the rest of an experiment: levels of training, and any σ."""
    if not isinstance(config, Experiment):
        return False
    if issubclass(cls, Model):
        unlabelled = config.augmentation is not None and not cls.takes_labels
        return unlabelled or (isinstance(config.schedule, LogNormal) and not cls.any_sigma)
    return cls is LogNormal and not config.model.any_sigma


def _bound_to_others(config: Config) -> set[str]:
    """Fields that can't change alone: of numeric data its range, and the fields of the other range."""
    if isinstance(config, Experiment):
        return set() if config.model.takes_labels else {"augmentation"}
    if isinstance(config, ScoreMatching):
        return {"weighting"} if config.power != 2 else {"power"} if config.weighting == "edm" else set()
    if not isinstance(config, NumericData):
        return {"dequantization"} if isinstance(config, Data) and not config.is_bounded else set()
    if config.is_bounded:
        return {"range", "complex", "scale", "window_low", "window_high"}
    return {"range", "complex", "dequantization", "low", "high", *(["channels"] if config.is_complex else [])}


def _required(cls: type[Config], before: dict[str, Any]) -> dict[str, Any]:
    stand_in: dict[str, Any] = {"category": "bedroom", "image_size": 32, "root": "somewhere", "path": "somewhere"}
    stand_in |= {"step_size": 1e-5, "steps_per_level": 5}
    needed = [field.name for field in attrs.fields(cls) if field.default is attrs.NOTHING]
    return {name: before.get(name) or stand_in.get(name) for name in needed}


CASES = [
    pytest.param(case, index, id=f"{case}:{path}")
    for case, experiment in every_variant().items()
    for index, (path, _, _) in enumerate(_changes(experiment, unstructure(experiment)))
]


@pytest.mark.parametrize(("case", "index"), CASES)
def test_each_field_is_in_the_identity_unless_it_is_declared_outside(case: str, index: int) -> None:
    before = every_variant()[case]
    values = unstructure(before)
    path, holder, value = list(_changes(before, values))[index]
    holder[path.rpartition(".")[2]] = value
    after = structure(values, Experiment)
    assert after != before
    assert (identity(after) == identity(before)) == is_outside(path)


def is_outside(path: str) -> bool:
    return path in OUTSIDE or path.startswith(("sampler.", "snapshots.sampler."))


def test_the_cases_cover_every_field_that_is_outside() -> None:
    paths = {
        path for experiment in every_variant().values() for path, _, _ in _changes(experiment, unstructure(experiment))
    }
    assert paths >= OUTSIDE


def test_a_whole_number_and_the_same_number_with_a_point_are_one() -> None:
    whole = attrs.evolve(minimal(), optimizer=Adam(lr=1, weight_decay=0), clip_norm=2)
    point = attrs.evolve(minimal(), optimizer=Adam(lr=1.0, weight_decay=0.0), clip_norm=2.0)
    assert identity(whole) == identity(point)


def test_minus_zero_is_zero() -> None:
    minus = attrs.evolve(minimal(), optimizer=Adam(weight_decay=-0.0))
    assert identity(minus) == identity(minimal())


def test_the_identity_is_the_sha256_of_sorted_utf8_json_without_spaces() -> None:
    assert canonical({"b": [1, 2.5, None, True], "a": "σ"}) == '{"a":"σ","b":[1,2.5,null,true]}'.encode()
    assert digest({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical(float("nan"))


def test_two_experiments_with_different_names_for_the_same_thing_share_an_identity() -> None:
    longer: Experiment = attrs.evolve(minimal(), name="longer", steps=10**6, note="more", snapshots=None)
    assert identity(longer) == identity(minimal())
