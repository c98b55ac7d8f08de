"""Trains a model of the package diffusers on scikit-learn's digits, by its own noise scheduler, and saves its folder.

    python docs/images/diffusers_digits.py digits-diffusers [SECONDS]

The folder is what `ncsnx import` takes: `ncsnx import digits-diffusers digits`.
"""

import sys
import time

import torch
import torch.nn.functional as F
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from sklearn.datasets import load_digits

folder, seconds = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 120.0
torch.manual_seed(0)
images = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 8 - 1  # (1797, 1, 8, 8) in [-1, 1]
unet = UNet2DModel(
    sample_size=8,
    in_channels=1,
    out_channels=1,
    layers_per_block=2,
    block_out_channels=(32, 64),
    down_block_types=("DownBlock2D", "AttnDownBlock2D"),
    up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    norm_num_groups=8,
)
scheduler = DDPMScheduler(num_train_timesteps=1000)
optimizer = torch.optim.AdamW(unet.parameters(), lr=2e-3)
end, step = time.monotonic() + seconds, 0
while (left := (end - time.monotonic()) / seconds) > 0:
    x0 = images[torch.randint(len(images), (64,))]
    noise, steps = torch.randn_like(x0), torch.randint(1000, (len(x0),))
    loss = F.mse_loss(unet(scheduler.add_noise(x0, noise, steps), steps).sample, noise)
    for group in optimizer.param_groups:
        group["lr"] = 2e-3 * min(1, step / 50) * min(1.0, 2 * left)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    step += 1
print(f"{step} steps, the last loss {loss.item():.3f}")
DDPMPipeline(unet=unet, scheduler=scheduler).save_pretrained(folder)
