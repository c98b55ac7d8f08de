"""The identity of a run: the fields in it and outside, and that it never changes; published experiments."""

import pytest

from ncsnx.config import CIFAR10, NCSN, Adam, AnnealedLangevin, Ema, Experiment, Geometric
from ncsnx.config.codec import flatten, identifying_paths, identity
from ncsnx.config.converter import unstructure
from ncsnx.config.discovery import built_in_folder, discover, resolve
from ncsnx.config.loading import load_file
from tests.config.examples import every_variant

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


def test_each_field_is_in_the_identity_unless_it_is_declared_outside() -> None:
    """The change by the others follows from the frozen identities of `test_saved_form`, which are off all defaults."""
    experiments = every_variant().values()
    inside = {path for experiment in experiments for path in identifying_paths(experiment)}
    inside.add("augmentation")  # while there is one
    every = {path for experiment in experiments for path, _ in flatten(unstructure(experiment))}
    assert {path for path in every - inside if not path.startswith(("sampler.", "snapshots.sampler."))} == OUTSIDE


# pixels, σ_1, levels, T, ε, batch, steps, network evaluations per image
PUBLISHED = {
    "cifar10": (32, 50.0, 232, 5, 6.2e-6, 128, 300_000, 1161),
    "celeba64": (64, 90.0, 500, 5, 3.3e-6, 128, 210_000, 2501),
    "church96": (96, 140.0, 788, 4, 4.9e-6, 128, 200_000, 3153),
    "bedroom128": (128, 190.0, 1086, 3, 1.8e-6, 128, 150_000, 3259),
    "tower128": (128, 190.0, 1086, 3, 1.8e-6, 128, 150_000, 3259),
    "ffhq256": (256, 348.0, 2311, 3, 9e-7, 32, 80_000, 6934),
}


def built_in(name: str) -> Experiment:
    return resolve(str(built_in_folder() / f"{name}.py")).experiment


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_ncsnv2_experiments_have_the_published_values(name: str) -> None:
    experiment = built_in(name)
    pixels, sigma_max, levels, steps_per_level, step_size, batch_size, steps, evaluations = PUBLISHED[name]
    assert (experiment.data.shape, experiment.data.random_flip) == ((3, pixels, pixels), True)
    assert experiment.schedule == Geometric(sigma_max=sigma_max, sigma_min=0.01, levels=levels)
    assert experiment.optimizer == Adam(lr=1e-4, eps=1e-3 if name == "ffhq256" else 1e-8)
    assert experiment.sampler == AnnealedLangevin(step_size=step_size, steps_per_level=steps_per_level, denoise=True)
    assert levels * steps_per_level + 1 == evaluations
    assert experiment.ema == Ema(rate=0.999)
    assert (experiment.batch_size, experiment.steps) == (batch_size, steps)


def test_the_original_ncsn_has_its_published_values() -> None:
    experiment = built_in("cifar10_ncsn")
    assert experiment.data == CIFAR10(random_flip=True, dequantization="uniform")
    assert experiment.schedule == Geometric(sigma_max=1.0, sigma_min=0.01, levels=10)
    assert experiment.model == NCSN(width=128)
    assert experiment.optimizer == Adam(lr=1e-3)
    assert experiment.sampler == AnnealedLangevin(step_size=2e-5, steps_per_level=100, denoise=False)
    assert experiment.ema is None


def test_each_file_registers_one_experiment_of_its_own_name() -> None:
    files = sorted(built_in_folder().glob("*.py"))
    assert len(files) == 11
    for file in files:
        assert [registered.experiment.name for registered in load_file(file).registered] == [file.stem]
