"""The identity of a run: the fields in it and outside, and that it never changes; published experiments."""

import pytest

from ncsnx.config import CIFAR10, NCSN, Adam, AnnealedLangevin, Ema, Experiment, Geometric
from ncsnx.config.codec import flatten, identifying_paths, identity
from ncsnx.config.converter import unstructure
from ncsnx.config.discovery import built_in_folder, discover, resolve
from ncsnx.config.loading import load_file
from tests.config.examples import every_variant

FROZEN = {
    "bedroom128": "60a8ae2d6632ffe50225f2cb4b3aa9e8eb268c1167685e0a0c514fbf6a5a3711",
    "celeba64": "d3e18b3ce386e3932c7c1f8179f4d562e87b2366ca0ffc01374b9ee2d1402447",
    "church96": "f57df1bd1a7bb3dc290c3e90818b1f02c81557581febc5d00e2f39fdcbea23a9",
    "cifar10": "20e7a1e78f3dd659a6dbcee76e23bb2d6ccd39a33415267002c2c8904aa62b32",
    "cifar10_edm_cond": "80b4aa70c94f6807229e3f420be58154ae967278c76fd40566cc2f9600a97813",
    "cifar10_ncsn": "7dcc34e9b352930493e41d29e10c6bf9f0664e62ad6cd21682436f7b550fec4a",
    "cifar10_edm": "add8c72ac4bd854133b574fc16d3342e65c2e4f3a5e61e39169b8f3b186e924b",
    "digits": "3567db96ffe5b76d075cf779253ba052f4b29076569c08b0ca5204347ce10949",
    "digits_edm": "f5e8f68d0006abe7b8485e5991ff6a741317559d1b54346883cbbc9ec0d9c51a",
    "fashion_mnist": "7663ecef186c9f16934cd46ee212810485d56b7c9223586e551bceab1bf60d4f",
    "ffhq256": "c9f78e09413b7cf3f9c04f4be18edc98c630f5e9029c07436a546a8809108a70",
    "mnist": "ea408dbb96ff947f7a53ecbe8ece6a345902d49773510312263dd1c0ccbd6dd7",
    "phantom64x48": "bd8e8cb83dffa03cee4286d7c889bd7636d499abbc7d3f3940ef666db2dd21ad",
    "photographs": "75e8d7ec21d6c27084e0daf65781035dd694033615c59a2fd2ae79a60ed15a67",
    "tower128": "f085f08c41578ab9638f3e690ebef2c2b2984f3dc64b7530d6469a16a5365e2a",
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
    inside |= {"augmentation", "model.classes", "model.class_dropout"}  # unless they are the defaults, as here
    every = {path for experiment in experiments for path, _ in flatten(unstructure(experiment))}
    assert {path for path in every - inside if not path.startswith(("sampler.", "snapshots.sampler."))} == OUTSIDE


def test_passes_are_in_the_identity_only_where_each_takes_statistics_of_its_own() -> None:
    for normalization, differs in (("instance++", False), ("batch", True)):
        words = [f"model.normalization={normalization}", "accumulation=4"]
        whole, parts = (resolve("cifar10", words[:count]).experiment for count in (1, 2))
        assert (identity(whole) != identity(parts)) is differs
        assert ("accumulation" in identifying_paths(parts)) is differs


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
    assert len(files) == 15
    for file in files:
        assert [registered.experiment.name for registered in load_file(file).registered] == [file.stem]
