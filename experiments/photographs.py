"""Patches of photographs in color: a prior for restoring photographs, trained in hours on a CPU core.

The pictures are those of `examples/photographs.py`. They are wallpapers for large screens, smooth at full size, and are
cut at a half, a quarter and an eighth of it. The learning rate falls slowly, so that the averaged weights are usable
whenever the training is stopped. See docs/project/photographs.md.
"""

from ncsnx.config import (
    Adam,
    Ema,
    Experiment,
    Heun,
    Images,
    InverseSqrtDecay,
    Karras,
    LogNormal,
    Retention,
    ScoreMatching,
    Snapshots,
    UNet,
    register,
)

photographs = register(
    Experiment(
        name="photographs",
        data=Images(
            root="photographs",
            image_size=48,
            patches=True,
            scales=(0.5, 0.25, 0.125),
            held_out=0.15,
            transform="rescaled",
            random_flip=True,
        ),
        schedule=LogNormal(sigma_max=30.0, sigma_min=0.01, levels=60, p_mean=-1.6, p_std=1.4),
        model=UNet(width=48, multipliers=(1, 1, 1, 2), blocks=1, attention=(), normalization="pixel"),
        optimizer=Adam(lr=1e-3),
        decay=InverseSqrtDecay(steps=1_000),
        loss=ScoreMatching(weighting="edm"),
        sampler=Heun(steps=12, grid=Karras(sigma_max=30.0, sigma_min=0.01, rho=7.0)),
        ema=Ema(rate=0.999),
        batch_size=32,
        warmup_steps=200,
        steps=60_000,
        checkpoint_every=250,
        eval_every=250,
        snapshots=Snapshots(n=16, every=4),
        retention=Retention(keep_last=3, keep_every=5_000),
        seed=1234,
        precision="bf16",
    )
)
