"""E-TSDM in a loop as in diffusers' unconditional training script: one line added, kept by the moving average and by from_pretrained."""

import sys
from tempfile import mkdtemp

import torch
import torch.nn.functional as F
from diffusers import DDIMPipeline, DDIMScheduler, DDPMScheduler, UNet2DModel
from diffusers.training_utils import EMAModel

from etsdm import share_timesteps
from etsdm.data import Digits

folder, digits = (sys.argv[1:] or [mkdtemp()])[0], Digits().open("train")
blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
model = UNet2DModel(
    sample_size=8, in_channels=1, out_channels=1, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8, **blocks
)
share_timesteps(model, t_tilde=100, n=5)  # the fix: before EMA, accelerator.prepare and the loop

ema = EMAModel(model.parameters(), model_cls=UNet2DModel, model_config=model.config)
noise_scheduler = DDPMScheduler(num_train_timesteps=1000)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for step in range(20):
    images = digits.batch(range(64 * step, 64 * step + 64)).pixels
    noise, timesteps = torch.randn_like(images), torch.randint(0, 1000, (64,))
    noisy_images = noise_scheduler.add_noise(images, noise, timesteps)  # true t
    loss = F.mse_loss(model(noisy_images, timesteps).sample, noise)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    ema.step(model.parameters())
ema.copy_to(model.parameters())
model.save_pretrained(folder)

loaded = UNet2DModel.from_pretrained(folder)
share_timesteps(loaded)  # the map that is stored in config.json
print("map of the loaded model:", loaded.config.condition_map)
pipeline = DDIMPipeline(loaded, DDIMScheduler(num_train_timesteps=1000))
pipeline.set_progress_bar_config(disable=True)
print("samples:", pipeline(batch_size=4, num_inference_steps=10, output_type="np").images.shape)
with torch.no_grad():
    outputs = [loaded(images, t).sample for t in (0, 19, 20)]
print("equal at t = 0 and 19:", torch.equal(outputs[0], outputs[1]), "| at 19 and 20:", torch.equal(outputs[1], outputs[2]))
