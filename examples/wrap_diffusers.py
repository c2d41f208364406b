"""diffusers' UNet2DModel as a denoiser: Lipschitz constants, three samplers, a trainer and a loop of one's own, a checkpoint and back."""

import sys
from pathlib import Path
from tempfile import mkdtemp

import torch
from diffusers import UNet2DModel

import etsdm
from etsdm.data import Digits
from etsdm.training import Trainer
from etsdm.training.config import Training

layers = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
unet = UNet2DModel(sample_size=8, in_channels=1, out_channels=1, block_out_channels=(32, 64), layers_per_block=1, **layers)
denoiser = etsdm.wrap(unet, schedule="linear", target="eps", condition_map={"type": "e-tsdm", "t_tilde": 100, "n": 5})

digits, folder = Digits().open("train"), Path((sys.argv[1:] or [f"{mkdtemp()}/unet"])[0])
trainer = Trainer(denoiser.spec, Training(images=20 * 64, batch_size=64, learning_rate=1e-3, ema=0.9), digits, seed=0)
for _ in range(20):
    trainer.step()  # trains the given UNet
optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-3)
for step in range(20):
    x0, t = digits.batch(range(64 * step, 64 * step + 64)).pixels, torch.randint(1000, (64,))
    alpha, sigma = (value.float()[:, None, None, None] for value in denoiser.schedule.alpha_sigma(t))
    eps = torch.randn_like(x0)
    (denoiser.output(alpha * x0 + sigma * eps, t) - eps).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()

etsdm.save(denoiser.eval(), folder)
denoiser, x, t = etsdm.load(folder, backbone=unet), torch.randn(4, 1, 8, 8), torch.tensor([5, 19, 120, 999])
by_hand = unet(x, torch.tensor([0, 0, 120, 999])).sample  # [0, 20) shares the condition of 0
print("largest difference from the UNet called by hand:", (denoiser.output(x, t) - by_hand).abs().max().item())
for sampler in ("ddpm", "ddim", "dpm-solver++-2m"):
    print(f"{sampler}:", tuple(etsdm.sample(denoiser, n=4, sampler=sampler, steps=10, seed=0).shape))
constants = etsdm.lipschitz_curve(denoiser, digits.batch(range(32)).pixels, t=(5, 19, 39, 120)).mean
print("K at t = 5, 19, 39, 120:", [round(k, 4) for k in constants.tolist()])
