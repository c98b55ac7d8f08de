"""CIFAR-10 at 32 px, as published (Song & Ermon 2020, appendix B)."""

from ncsnx.config import CIFAR10, Adam, AnnealedLangevin, Ema, Experiment, Geometric, NCSNv2, register

cifar10 = register(
    Experiment(
        name="cifar10",
        data=CIFAR10(random_flip=True),
        schedule=Geometric(sigma_max=50.0, sigma_min=0.01, levels=232),
        model=NCSNv2(width=128),
        optimizer=Adam(lr=1e-4),
        sampler=AnnealedLangevin(step_size=6.2e-6, steps_per_level=5),
        ema=Ema(rate=0.999),
        batch_size=128,
        steps=300_000,
        checkpoint_every=5_000,
        seed=1234,
    )
)
