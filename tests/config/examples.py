"""Experiments and experiment files for the tests of the configuration."""

from pathlib import Path

import attrs

from ncsnx.config import (
    CIFAR10,
    FFHQ,
    LSUN,
    NCSN,
    SGD,
    Adam,
    AnnealedLangevin,
    Arrays,
    Augmentation,
    CelebA,
    ConsistentAnnealed,
    CosineDecay,
    Data,
    Digits,
    DPMSolverPP,
    DPMSolverPPSDE,
    Ema,
    EulerAncestral,
    Experiment,
    Exponential,
    Geometric,
    Heun,
    Images,
    InverseSqrtDecay,
    Karras,
    LogNormal,
    NCSNDeeper,
    NCSNv2,
    NCSNv2Deeper,
    NCSNv2Deepest,
    Packed,
    Phantoms,
    PredictorCorrector,
    ProbabilityFlowODE,
    Retention,
    RMSProp,
    Sampler,
    ScoreMatching,
    Snapshots,
    TrainedLevels,
    UNet,
    Uniform,
    Volumes,
)
from ncsnx.config.codec import SavedExperiment
from ncsnx.config.converter import structure

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


def every_variant() -> dict[str, Experiment]:
    """Experiments that together have every built-in variant, and every field at a value other than its default."""
    return {
        "digits": minimal(),
        "cifar10": Experiment(
            name="cifar10",
            data=CIFAR10(root="/data/cifar10", random_flip=True, dequantization="uniform", transform="logit"),
            schedule=Uniform(sigma_max=50.0, sigma_min=0.02, levels=232),
            model=NCSN(width=64, normalization="batch", activation="swish", spectral_norm=True),
            optimizer=SGD(lr=0.1, weight_decay=1e-4, momentum=0.5),
            sampler=AnnealedLangevin(step_size=6.2e-6, steps_per_level=7, denoise=False, data_init=True),
            loss=ScoreMatching(power=1.0),
            ema=None,
            batch_size=96,
            accumulation=4,
            warmup_steps=500,
            clip_norm=1.5,
            precision="bf16",
            seed=4294967295,
            steps=300_000,
            checkpoint_every=2_500,
            eval_every=50,
            log_every=5,
            snapshots=None,
            note="σ as published; lr isn't",
        ),
        "celeba": Experiment(
            name="celeba",
            data=CelebA(
                root="celeba",
                random_flip=True,
                dequantization="gaussian",
                transform="rescaled",
                image_size=32,
                crop=120,
            ),
            schedule=Geometric(sigma_max=90.0, sigma_min=0.02, levels=500),
            model=NCSNDeeper(width=96, normalization="instance", activation="relu", spectral_norm=True),
            optimizer=RMSProp(lr=2e-4, weight_decay=0.01, alpha=0.9, eps=1e-6, momentum=0.1),
            sampler=AnnealedLangevin(step_size=3.3e-6, steps_per_level=5),
            ema=Ema(rate=0.99),
            snapshots=Snapshots(n=16, every=4),
            steps=210_000,
        ),
        "lsun": Experiment(
            name="lsun",
            data=LSUN(
                root="lsun",
                random_flip=True,
                dequantization="uniform",
                transform="logit",
                category="church_outdoor",
                image_size=96,
            ),
            schedule=Geometric(sigma_max=140.0, levels=788),
            model=NCSNv2Deeper(width=96, normalization="variance", activation="leaky_relu"),
            optimizer=Adam(lr=2e-4, weight_decay=0.1, beta1=0.5, beta2=0.9, eps=1e-3, amsgrad=True),
            sampler=AnnealedLangevin(step_size=4.9e-6, steps_per_level=4),
            steps=200_000,
        ),
        "ffhq": Experiment(
            name="ffhq",
            data=FFHQ(root="ffhq", random_flip=True, dequantization="gaussian", transform="rescaled", image_size=128),
            schedule=Uniform(sigma_max=348.0, levels=2311),
            model=NCSNv2Deepest(width=32, normalization="none", activation="swish"),
            sampler=AnnealedLangevin(step_size=9e-7, steps_per_level=3),
            steps=80_000,
        ),
        "ncsnv2": Experiment(
            name="ncsnv2",
            data=Digits(random_flip=True, dequantization="uniform", transform="rescaled"),
            schedule=Geometric(sigma_max=8.0, sigma_min=0.02, levels=10),
            model=NCSNv2(width=16, normalization="instance", activation="relu"),
            sampler=AnnealedLangevin(step_size=1e-5, steps_per_level=2),
            steps=100,
        ),
        "edm": Experiment(
            name="edm",
            data=Digits(transform="rescaled", sigma_data=0.8),
            schedule=LogNormal(sigma_max=10.0, sigma_min=0.02, levels=24, p_mean=-1.0, p_std=1.1),
            model=UNet(
                width=16,
                multipliers=(2, 3),
                blocks=1,
                attention=(4,),
                embedding="fourier",
                preconditioning="none",
                dropout=0.1,
            ),
            augmentation=Augmentation(probability=0.2),
            loss=ScoreMatching(weighting="edm"),
            decay=CosineDecay(steps=100),
            sampler=AnnealedLangevin(step_size=1e-5, steps_per_level=2),
            steps=100,
        ),
        "inverse-sqrt": attrs.evolve(minimal(), decay=InverseSqrtDecay(steps=100)),
        "images": of_own_data(
            "images",
            Images(
                root="photographs.zip",
                random_flip=True,
                dequantization="uniform",
                transform="rescaled",
                image_size=64,
                random_crop=72,
                channels=1,
                background="#102030",
                held_out=0.2,
                held_out_folder="held",
                on_error="skip",
            ),
        ),
        "formats": of_own_data(
            "formats",
            Images(
                root="photographs",
                image_size=64,
                random_crop=72,
                channels=1,
                background="#102030",
                gif=True,
                heic=True,
            ),
        ),
        "arrays": of_own_data(
            "arrays",
            Arrays(
                path="scans.npz",
                random_flip=True,
                dequantization="gaussian",
                transform="rescaled",
                image_size=32,
                random_crop=40,
                channels=5,
                low=-1.0,
                high=1.0,
                array="scans",
                held_out=0.2,
            ),
        ),
        "unbounded": of_own_data(
            "unbounded",
            Arrays(
                path="scans.npy",
                image_size=32,
                random_crop=40,
                range="unbounded",
                scale=0.5,
                window_low=-2.0,
                window_high=1.0,
            ),
        ),
        "windowed": of_own_data(
            "windowed",
            Packed(
                path="scans.packed",
                image_size=32,
                random_crop=40,
                transform="rescaled",
                range="unbounded",
                scale=2.5,
                window_low=-1.0,
                window_high=3.0,
            ),
        ),
        "complex": of_own_data(
            "complex", Arrays(path="scans.npy", image_size=32, channels=2, range="unbounded", complex=True)
        ),
        "complex packed": of_own_data(
            "complex-packed", Packed(path="scans.packed", image_size=32, channels=2, range="unbounded", complex=True)
        ),
        "volumes": of_own_data(
            "volumes",
            Volumes(
                path="scans",
                image_size=32,
                random_crop=40,
                random_flip=True,
                dataset="scan/rss",
                axis=1,
                channels=4,
                held_out=0.2,
                transform="rescaled",
                scale=2.5,
                window_low=0.0,
                window_high=3.0,
                complex=True,
            ),
        ),
        "measured": of_own_data("measured", Digits(mean=(0.25,))),
        "bounded volumes": of_own_data(
            "bounded-volumes",
            Volumes(path="scans", image_size=32, range="bounded", low=-1000.0, high=3000.0, dequantization="uniform"),
        ),
        "phantoms": of_own_data(
            "phantoms", Phantoms(image_size=(32, 24), count=1_000, seed=5, random_flip=True, transform="rescaled")
        ),
        "packed": Experiment(
            name="packed",
            data=Packed(
                path="faces.packed",
                random_flip=True,
                dequantization="gaussian",
                transform="logit",
                image_size=128,
                random_crop=144,
                channels=1,
            ),
            schedule=Geometric(sigma_max=90.0, levels=500),
            model=NCSNv2Deeper(),
            sampler=AnnealedLangevin(step_size=3e-6, steps_per_level=5),
            steps=10_000,
        ),
        "retention": Experiment(
            name="retention",
            data=Digits(),
            schedule=Geometric(sigma_max=5.0, levels=24),
            model=NCSNv2(),
            sampler=AnnealedLangevin(step_size=2e-5, steps_per_level=5),
            steps=1_500,
            retention=Retention(keep_last=3, keep_every=50_000, keep_best=True),
        ),
        "quick-snapshots": Experiment(
            name="quick-snapshots",
            data=Digits(),
            schedule=Geometric(sigma_max=5.0, levels=24),
            model=NCSNv2(),
            sampler=AnnealedLangevin(step_size=2e-5, steps_per_level=5),
            steps=1_500,
            snapshots=Snapshots(n=9, sampler=ConsistentAnnealed(steps=20, order=2, grid=TrainedLevels())),
        ),
        **{f"sampler-{number}": sampled(sampler) for number, sampler in enumerate(SAMPLERS)},
    }


SAMPLERS: tuple[Sampler, ...] = (
    ConsistentAnnealed(steps=24, eta=0.25, order=2, grid=TrainedLevels()),
    PredictorCorrector(
        steps=100,
        predictor="ancestral",
        corrector="ald",
        corrector_steps=2,
        snr=0.075,
        grid=Exponential(sigma_max=20.0, sigma_min=0.02),
    ),
    Heun(
        steps=18,
        churn=40.0,
        churn_min=0.05,
        churn_max=50.0,
        noise_scale=1.003,
        grid=Karras(rho=3.0, sigma_max=10.0, sigma_min=0.03),
    ),
    EulerAncestral(steps=20, eta=0.5, grid=Exponential()),
    DPMSolverPP(steps=12, grid=Exponential()),
    DPMSolverPPSDE(steps=8, eta=2.0, grid=TrainedLevels()),
    ProbabilityFlowODE(steps=4, tolerance=1e-4, grid=Exponential(sigma_min=0.02)),
    ConsistentAnnealed(order=1),
    PredictorCorrector(corrector="langevin"),
)
"""Samplers of few steps, with every field at a value other than its default or its first default."""


def of_own_data(name: str, data: Data) -> Experiment:
    """An experiment of other data, with the values that suit small images."""
    return Experiment(
        name=name,
        data=data,
        schedule=Geometric(sigma_max=30.0, levels=200),
        model=NCSNv2(),
        sampler=AnnealedLangevin(step_size=6e-6, steps_per_level=5),
        steps=10_000,
    )


def sampled(sampler: Sampler) -> Experiment:
    """A minimal experiment with this sampler."""
    return attrs.evolve(minimal(), name="sampled", sampler=sampler)


def from_json(saved: object) -> Experiment:
    """The experiment of a saved form. Raises StructureError."""
    return structure(saved, SavedExperiment).experiment
