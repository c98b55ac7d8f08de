"""CIFAR-10 at 32 px by a class-conditional U-Net, with the settings of Karras et al. 2022 for DDPM++ (arXiv 2206.00364,
appendix F).

The paper counts images: 200 million of them in batches of 512, a learning rate that rises over the first 10 million,
and an average with a half-life of half a million. No class is withheld in training, so that images aren't guided.
"""

from ncsnx.config import (
    CIFAR10,
    Adam,
    Augmentation,
    Ema,
    Experiment,
    Heun,
    Karras,
    LogNormal,
    ScoreMatching,
    UNet,
    register,
)

cifar10_edm_cond = register(
    Experiment(
        name="cifar10_edm_cond",
        data=CIFAR10(transform="rescaled", sigma_data=0.5),
        schedule=LogNormal(sigma_max=80.0, sigma_min=0.002, levels=100),
        model=UNet(dropout=0.13, classes=10, class_dropout=0.0),
        optimizer=Adam(lr=1e-3),
        loss=ScoreMatching(weighting="edm"),
        augmentation=Augmentation(probability=0.12),
        sampler=Heun(steps=18, grid=Karras(sigma_max=80.0, sigma_min=0.002, rho=7.0)),
        ema=Ema(rate=0.9993),
        batch_size=512,
        warmup_steps=19_531,
        steps=390_625,
        checkpoint_every=5_000,
        seed=0,
    )
)
