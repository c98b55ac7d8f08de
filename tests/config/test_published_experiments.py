"""The eight experiments have the published values (Song & Ermon 2019 and 2020)."""

import pytest

from ncsnx.config import (
    CIFAR10,
    FFHQ,
    LSUN,
    NCSN,
    Adam,
    AnnealedLangevin,
    CelebA,
    Digits,
    Ema,
    Experiment,
    Geometric,
    NCSNv2,
    NCSNv2Deeper,
    NCSNv2Deepest,
    ScoreMatching,
)
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
DATA = {
    "cifar10": CIFAR10(random_flip=True),
    "celeba64": CelebA(random_flip=True, image_size=64, crop=140),
    "church96": LSUN(random_flip=True, category="church_outdoor", image_size=96),
    "bedroom128": LSUN(random_flip=True, category="bedroom", image_size=128),
    "tower128": LSUN(random_flip=True, category="tower", image_size=128),
    "ffhq256": FFHQ(random_flip=True, image_size=256),
}
NETWORKS = {
    "cifar10": NCSNv2(width=128),
    "celeba64": NCSNv2(width=128),
    "church96": NCSNv2Deeper(width=128),
    "bedroom128": NCSNv2Deeper(width=128),
    "tower128": NCSNv2Deeper(width=128),
    "ffhq256": NCSNv2Deepest(width=128),
}


def built_in(name: str) -> Experiment:
    return resolve(str(built_in_folder() / f"{name}.py")).experiment


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_ncsnv2_experiments_have_the_published_values(name: str) -> None:
    experiment = built_in(name)
    pixels, sigma_max, levels, steps_per_level, step_size, batch_size, steps, evaluations = PUBLISHED[name]
    assert experiment.data == DATA[name]
    assert experiment.data.image_size == pixels
    assert experiment.data.channels == 3
    assert experiment.schedule == Geometric(sigma_max=sigma_max, sigma_min=0.01, levels=levels)
    assert experiment.model == NETWORKS[name]
    assert (experiment.model.normalization, experiment.model.activation) == ("instance++", "elu")
    assert experiment.optimizer == Adam(
        lr=1e-4, beta1=0.9, beta2=0.999, eps=1e-3 if name == "ffhq256" else 1e-8, weight_decay=0.0, amsgrad=False
    )
    assert experiment.sampler == AnnealedLangevin(
        step_size=step_size, steps_per_level=steps_per_level, denoise=True, data_init=False
    )
    assert levels * steps_per_level + 1 == evaluations
    assert experiment.loss == ScoreMatching(power=2.0)
    assert experiment.ema == Ema(rate=0.999)
    assert (experiment.batch_size, experiment.steps) == (batch_size, steps)
    assert (experiment.accumulation, experiment.warmup_steps, experiment.clip_norm) == (1, 0, None)
    assert experiment.precision == "fp32"
    assert (experiment.checkpoint_every, experiment.eval_every) == (5_000, 100)
    assert experiment.snapshots is not None
    assert experiment.snapshots.n == 36


def test_the_original_ncsn_has_its_published_values() -> None:
    experiment = built_in("cifar10_ncsn")
    assert experiment.data == CIFAR10(random_flip=True, dequantization="uniform")
    assert experiment.schedule == Geometric(sigma_max=1.0, sigma_min=0.01, levels=10)
    assert experiment.model == NCSN(width=128)
    assert experiment.optimizer == Adam(lr=1e-3)
    assert experiment.sampler == AnnealedLangevin(step_size=2e-5, steps_per_level=100, denoise=False)
    assert experiment.ema is None
    assert experiment.loss == ScoreMatching(power=2.0)


def test_the_digits_are_small_enough_for_any_machine() -> None:
    experiment = built_in("digits")
    assert experiment.data == Digits()
    assert (experiment.data.image_size, experiment.data.channels) == (8, 1)
    assert experiment.model == NCSNv2(width=16)
    assert experiment.schedule == Geometric(sigma_max=5.0, sigma_min=0.01, levels=24)
    assert experiment.sampler == AnnealedLangevin(step_size=2.4e-5, steps_per_level=5)
    assert experiment.optimizer == Adam(lr=2e-3)
    assert experiment.ema == Ema(rate=0.995)
    assert (experiment.batch_size, experiment.steps, experiment.checkpoint_every) == (64, 2_000, 200)


def test_each_file_registers_one_experiment_of_its_own_name() -> None:
    files = sorted(built_in_folder().glob("*.py"))
    assert len(files) == 11
    for file in files:
        assert [registered.experiment.name for registered in load_file(file).registered] == [file.stem]
