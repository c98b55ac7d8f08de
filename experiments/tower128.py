"""LSUN towers at 128 px, as published (Song & Ermon 2020, appendix B)."""

from ncsnx.config import LSUN, Adam, AnnealedLangevin, Ema, Experiment, Geometric, NCSNv2Deeper, register

tower128 = register(
    Experiment(
        name="tower128",
        data=LSUN(category="tower", image_size=128, random_flip=True),
        schedule=Geometric(sigma_max=190.0, sigma_min=0.01, levels=1086),
        model=NCSNv2Deeper(width=128, normalization="instance++", activation="elu"),
        optimizer=Adam(lr=1e-4),
        sampler=AnnealedLangevin(step_size=1.8e-6, steps_per_level=3),
        ema=Ema(rate=0.999),
        batch_size=128,
        steps=150_000,
        checkpoint_every=5_000,
        seed=1234,
    )
)
