"""diffusers' UNet2DModel as a backbone: 20 training steps, a checkpoint and back, samples, the Lipschitz constants."""

import sys
from pathlib import Path

from diffusers import UNet2DModel

import etsdm
from etsdm.backbones import External
from etsdm.data import Digits
from etsdm.training import Trainer
from etsdm.training.config import Training

layers = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
unet = UNet2DModel(sample_size=8, in_channels=1, out_channels=1, block_out_channels=(32, 64), layers_per_block=1, **layers)
backbone = External(unet, shape=(1, 8, 8))
spec = etsdm.DenoiserSpec(schedule="linear", target="eps", backbone=backbone, condition_map={"type": "e-tsdm", "t_tilde": 100, "n": 5})

digits, folder = Digits().open("train"), Path(sys.argv[1])
trainer = Trainer(spec, Training(images=20 * 64, batch_size=64, learning_rate=1e-3, ema=0.9), digits, seed=0)
for _ in range(20):
    trainer.step()
trainer.save(folder)

denoiser = etsdm.load(folder, backbone=unet)  # the averaged weights, in the given network
print("samples:", tuple(etsdm.sample(denoiser, n=4, steps=10, seed=0).shape))
curve = etsdm.lipschitz_curve(denoiser, digits.batch(range(32)).pixels, t=(5, 19, 39, 120))
print("K at t = 5, 19, 39, 120:", [round(k, 4) for k in curve.mean.tolist()])
