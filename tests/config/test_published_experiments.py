"""The eight experiments have the published values (Song & Ermon 2019 and 2020)."""

import pytest

from ncsnx.config import CIFAR10, NCSN, Adam, AnnealedLangevin, Ema, Experiment, Geometric
from ncsnx.config.discovery import built_in_folder, resolve
from ncsnx.config.loading import load_file

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
