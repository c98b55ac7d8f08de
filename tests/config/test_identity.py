"""The identity of a run: the fields in it and outside, and that it never changes."""

import attrs
import pytest

from ncsnx.config import Adam, Arrays
from ncsnx.config.codec import canonical, digest, flatten, identifying_paths, identifying_values, identity
from ncsnx.config.converter import unstructure
from ncsnx.config.discovery import discover
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
"""Paths of all values that don't change the trained weights; those of samplers are left out."""


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


def test_each_field_is_in_the_identity_unless_it_is_declared_outside() -> None:
    """That the others change it follows from the frozen identities of `test_saved_form`, which are off all defaults."""
    experiments = every_variant().values()
    inside = {path for experiment in experiments for path in identifying_paths(experiment)}
    inside.add("augmentation")  # while there is one
    every = {path for experiment in experiments for path, _ in flatten(unstructure(experiment))}
    assert {path for path in every - inside if not path.startswith(("sampler.", "snapshots.sampler."))} == OUTSIDE


def test_a_whole_number_and_the_same_number_with_a_point_are_one() -> None:
    whole = attrs.evolve(minimal(), optimizer=Adam(lr=1, weight_decay=0), clip_norm=2)
    point = attrs.evolve(minimal(), optimizer=Adam(lr=1.0, weight_decay=0.0), clip_norm=2.0)
    assert identity(whole) == identity(point)


def test_the_identity_is_the_sha256_of_sorted_utf8_json_without_spaces() -> None:
    assert canonical({"b": [1, 2.5, None, True], "a": "σ"}) == '{"a":"σ","b":[1,2.5,null,true]}'.encode()
    assert digest({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical(float("nan"))
