"""Fashion-MNIST at 28 px by a U-Net, preconditioned as in EDM (Karras et al. 2022): half an hour of a CPU core's time.

The learning rate falls to 0, so that the weights need no average. CPUs with AMX or avx512_bf16 compute bf16 faster than
fp32. On others, precision=fp32 takes less time.
"""

from ncsnx.config import (
    Adam,
    CosineDecay,
    Experiment,
    FashionMNIST,
    Heun,
    Karras,
    LogNormal,
    ScoreMatching,
    Snapshots,
    UNet,
    register,
)

fashion_mnist = register(
    Experiment(
        name="fashion_mnist",
        data=FashionMNIST(transform="rescaled"),
        schedule=LogNormal(sigma_max=40.0, sigma_min=0.01, levels=50),
        model=UNet(width=32, multipliers=(1, 2, 2), blocks=1, attention=(7,), classes=10),
        optimizer=Adam(lr=2e-3),
        decay=CosineDecay(steps=2_500),
        loss=ScoreMatching(weighting="edm"),
        sampler=Heun(steps=12, grid=Karras(sigma_max=40.0, sigma_min=0.01, rho=7.0)),
        ema=None,
        batch_size=64,
        warmup_steps=200,
        steps=2_500,
        checkpoint_every=500,
        eval_every=500,
        snapshots=Snapshots(n=40),
        seed=1234,
        precision="bf16",
    )
)
