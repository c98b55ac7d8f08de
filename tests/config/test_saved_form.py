"""The saved form: every version ever written can be read, and nothing else."""

import json
from typing import Any, get_args, get_type_hints

import attrs
import pytest

from ncsnx.config import (
    Arrays,
    Augmentation,
    Config,
    ConsistentAnnealed,
    Data,
    Decay,
    Digits,
    DPMSolverPP,
    DPMSolverPPSDE,
    Ema,
    EulerAncestral,
    Experiment,
    Exponential,
    Grid,
    Heun,
    Images,
    Model,
    Optimizer,
    Packed,
    Phantoms,
    PredictorCorrector,
    ProbabilityFlowODE,
    Retention,
    Sampler,
    Schedule,
    ScoreMatching,
    Snapshots,
    TrainedLevels,
    Volumes,
)
from ncsnx.config.codec import ConfigError, flatten, identity, to_json
from ncsnx.config.converter import structure
from ncsnx.config.feature_networks import Features
from ncsnx.config.origins import is_default
from ncsnx.config.variants import TAG, is_family, variants
from tests.config.examples import FROZEN, every_variant, from_json, minimal


def saved(**changes: Any) -> dict[str, Any]:
    """The saved form of the minimal experiment, with top-level values replaced."""
    form = to_json(minimal())
    return {**form, "experiment": {**form["experiment"], **changes}}


@pytest.mark.parametrize("case", FROZEN["complete"])
def test_what_version_1_wrote_reads_for_ever(case: str) -> None:
    frozen = FROZEN["complete"][case]
    experiment = from_json(frozen["saved"])
    assert identity(experiment) == frozen["identity"]
    values = dict(flatten(to_json(experiment)["experiment"]))
    assert [row for row in flatten(frozen["saved"]["experiment"]) if values[row[0]] != row[1]] == []


def test_a_saved_experiment_that_lacks_every_field_with_a_default_gets_the_defaults() -> None:
    frozen = FROZEN["sparse"]
    assert from_json(frozen["saved"]) == minimal()
    assert identity(from_json(frozen["saved"])) == frozen["identity"]


def test_defaults_are_those_of_what_version_1_wrote() -> None:
    """Typed values keep their meaning. Defaults of other classes are in the identities of built-in experiments."""
    cases = every_variant()
    assert cases["digits"] == minimal()
    scans = {"image_size": 32, "channels": 2, "range": "unbounded", "complex": True}
    assert cases["complex"].data == Arrays(path="scans.npy", **scans)
    assert cases["complex packed"].data == Packed(path="scans.packed", **scans)
    assert cases["bounded volumes"].data == Volumes(
        path="scans", image_size=32, range="bounded", low=-1000.0, high=3000.0, dequantization="uniform"
    )
    pictures = Images(root="photographs", image_size=64, random_crop=72, channels=1, background="#102030")
    assert cases["formats"].data == attrs.evolve(pictures, gif=True, heic=True)
    assert cases["patches"].data == Images(root="photographs", image_size=48, patches=True, scales=(1.0, 0.5))
    samplers = [case.sampler for name, case in cases.items() if name.startswith("sampler-")]
    for typed in (
        EulerAncestral(steps=20, eta=0.5, grid=Exponential()),
        DPMSolverPP(steps=12, grid=Exponential()),
        DPMSolverPPSDE(steps=8, eta=2.0, grid=TrainedLevels()),
        ProbabilityFlowODE(steps=4, tolerance=1e-4, grid=Exponential(sigma_min=0.02)),
        ConsistentAnnealed(order=1),
        PredictorCorrector(corrector="langevin"),
    ):
        assert typed in samplers


def test_every_built_in_variant_and_every_field_off_its_default_is_in_the_frozen_file() -> None:
    written: dict[type, set[str]] = {}

    def visit(config: Config) -> None:
        written.setdefault(type(config), set())
        for field in attrs.fields(type(config)):
            value = getattr(config, field.name)
            if not is_default(field, value):
                written[type(config)].add(field.name)
            if isinstance(value, Config):
                visit(value)

    for experiment in every_variant().values():
        visit(experiment)
    families = [variants(family) for family in (Data, Schedule, Model, Optimizer, Decay, Sampler, Grid)]
    parts = [Experiment, Augmentation, Snapshots, Retention, Ema, ScoreMatching]
    for cls in [*(cls for family in families for cls in family.values()), *parts]:
        assert cls in written, cls
        fixed = {Phantoms: {"dequantization"}}.get(cls, set())  # which are unbounded, so that one has one value
        shared = {"sigma_data", "noise", "gain"} & written[Digits] if issubclass(cls, Data) else set()
        if issubclass(cls, Sampler):
            shared = {field.name for field in attrs.fields(Sampler)} & written[Heun]
        assert {field.name for field in attrs.fields(cls)} == written[cls] | fixed | shared, cls


def test_every_default_is_written_out_and_variants_are_tagged() -> None:
    form = to_json(minimal())
    assert form["schema_version"] == 1
    values = form["experiment"]
    assert values["optimizer"] == {
        "type": "adam",
        "lr": 1e-4,
        "weight_decay": 0.0,
        "beta1": 0.9,
        "beta2": 0.999,
        "eps": 1e-8,
        "amsgrad": False,
    }
    assert set(values) == {field.name for field in attrs.fields(Experiment)}
    assert values["loss"] == {"power": 2.0, "weighting": "power"}, "what is no variant has no tag"
    assert "ncsnx" not in json.dumps(form), "no class path is saved"


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ([], "expected an object, found list"),
        ({"schema_version": 1}, "experiment: is required, but missing"),
        ({"schema_version": 1, "experiment": "digits"}, "experiment: expected an object, found text 'digits'"),
        ({**saved(), "owner": "me"}, "owner: no such field; it has"),
        (saved(batchsize=1), "batchsize: no such field in Experiment; did you mean 'batch_size'?"),
        (saved(model={TAG: "ncsnv2", "ngf": 3}), "model.ngf: no such field in ncsnv2; it has width, normalization"),
        (saved(model={TAG: "ncsnv3"}), "model: expected one of ncsnv2, .*found type 'ncsnv3'; did you mean"),
        (saved(model={"width": 8}), "model: expected one of ncsnv2, .*found an object without a type"),
        (saved(model="ncsnv2"), "model: expected one of ncsnv2, .*found text 'ncsnv2'"),
        (saved(schedule={TAG: "geometric", "levels": 3}), "schedule.sigma_max: is required by geometric, but missing"),
        (saved(loss=2.0), "loss: expected one of score-matching, consistency, found number 2.0"),
        (saved(loss={"power": 2, "type": "x"}), "loss: expected one of score-matching, consistency, found type 'x'"),
        (saved(data={TAG: "digits", "random_flip": "false"}), "data.random_flip: expected true or false, found text"),
        (saved(steps=3.0), "steps: expected a whole number, found number 3.0"),
        (saved(steps=True), "steps: expected a whole number, found boolean True"),
        (saved(steps=-5), "steps: must be between 1 and 1,000,000,000, not -5"),
        (saved(clip_norm="1"), "clip_norm: expected a finite number, found text '1'"),
        (saved(clip_norm=float("nan")), "clip_norm: expected a finite number, found number nan"),
        (saved(clip_norm=10**400), "clip_norm: expected a finite number, found integer 1000"),
        (saved(note=None), "note: expected text, found none"),
        (saved(precision="fp16"), "precision: expected one of fp32, tf32, bf16, found text 'fp16'; did you mean"),
        (saved(ema={"rate": 1.0}), "ema.rate: must be at least 0 and below 1, not 1.0"),
    ],
)
def test_what_is_no_saved_experiment_is_refused_with_path_found_and_expected(form: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_json(form)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({TAG: "classifier", "width": 0}, "width: must be between 1 and 1,024, not 0"),
        ({TAG: "torchscript", "file": "x", "image_size": 0}, "image_size: must be between 1 and 16,384, not 0"),
        ({TAG: "torchscript", "file": "a\x1b"}, "file: must be one line of printable text"),
    ],
)
def test_values_of_feature_networks_are_bounded(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        structure(values, Features)


def test_everything_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        from_json(saved(steps="many", seed=-1, optimizer={TAG: "adam", "lr": "fast", "beta": 0.9}))
    assert {path for path, _ in caught.value.problems} == {
        "experiment.steps",
        "experiment.optimizer.lr",
        "experiment.optimizer.beta",
    }


def reachable(declared: Any, seen: set[type[Config]]) -> set[type[Config]]:
    """The configuration classes that a declared type can contain, directly or in fields."""
    for part in get_args(declared):
        reachable(part, seen)
    if isinstance(declared, type) and issubclass(declared, Config) and declared not in seen:
        seen.add(declared)
        chosen = variants(declared).values() if is_family(declared) else ()
        for inner in (*get_type_hints(declared).values(), *chosen):
            reachable(inner, seen)
    return seen


def test_no_experiment_holds_features_so_that_no_saved_file_names_code_to_be_executed() -> None:
    held = reachable(Experiment, set())
    assert len(held) > 10
    assert not [cls for cls in held if issubclass(cls, Features)]
