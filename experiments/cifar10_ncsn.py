"""CIFAR-10 with the original NCSN, as published (Song & Ermon 2019): ten levels, a conditional network, no EMA."""

from ncsnx.config import CIFAR10, NCSN, Adam, AnnealedLangevin, Experiment, Geometric, register

cifar10_ncsn = register(
    Experiment(
        name="cifar10_ncsn",
        data=CIFAR10(random_flip=True, dequantization="uniform"),
        schedule=Geometric(sigma_max=1.0, sigma_min=0.01, levels=10),
        model=NCSN(width=128),
        optimizer=Adam(lr=1e-3),
        sampler=AnnealedLangevin(step_size=2e-5, steps_per_level=100, denoise=False),
        ema=None,
        batch_size=128,
        steps=200_000,
        checkpoint_every=5_000,
        seed=1234,
    )
)
