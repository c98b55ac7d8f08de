"""Handwritten digits at 8 px by a U-Net, preconditioned as in EDM (Karras et al. 2022): minutes on two CPU cores."""

from ncsnx.config import (
    Adam,
    CosineDecay,
    Digits,
    Ema,
    Experiment,
    Heun,
    Karras,
    LogNormal,
    ScoreMatching,
    Snapshots,
    UNet,
    register,
)

digits_edm = register(
    Experiment(
        name="digits_edm",
        data=Digits(transform="rescaled"),
        schedule=LogNormal(sigma_max=10.0, sigma_min=0.02, levels=24),
        model=UNet(width=16, multipliers=(2, 3, 3), blocks=1, attention=()),
        optimizer=Adam(lr=3e-3),
        decay=CosineDecay(steps=1_000),
        loss=ScoreMatching(weighting="edm"),
        sampler=Heun(steps=9, grid=Karras(sigma_max=10.0, sigma_min=0.02, rho=7.0)),
        ema=Ema(rate=0.99),
        batch_size=128,
        warmup_steps=50,
        steps=1_000,
        checkpoint_every=500,
        snapshots=Snapshots(n=16),
        seed=1234,
    )
)
