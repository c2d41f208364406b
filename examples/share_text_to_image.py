"""E-TSDM for a text-to-image UNet2DConditionModel: min-SNR weights at the true t, and the map in the metadata of the weights' one file."""

import sys
from tempfile import mkdtemp

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.training_utils import compute_snr
from safetensors.torch import load_file, save_file

from etsdm.interop import condition_map_metadata, read_condition_map, share_timesteps

file = (sys.argv[1:] or [f"{mkdtemp()}/unet.safetensors"])[0]


def make():
    blocks = {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")}
    sizes = {"block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8, "attention_head_dim": 8}
    return UNet2DConditionModel(sample_size=8, cross_attention_dim=32, **sizes, **blocks)


unet = make()
share_timesteps(unet)  # the fix; t_tilde=100 and n=5 are the defaults
noise_scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-4)
for _ in range(10):
    latents, text = torch.randn(8, 4, 8, 8), torch.randn(8, 7, 32)  # of a VAE and of a text encoder
    noise, timesteps = torch.randn_like(latents), torch.randint(0, 1000, (8,))
    noisy_latents = noise_scheduler.add_noise(latents, noise, timesteps)
    prediction = unet(noisy_latents, timesteps, text, return_dict=False)[0]
    snr = compute_snr(noise_scheduler, timesteps)  # of the true t, as the noise is
    weights = snr.clamp(max=5.0) / snr
    loss = ((prediction - noise).square().mean((1, 2, 3)) * weights).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
save_file(unet.state_dict(), file, metadata=condition_map_metadata(unet))

loaded, stored = make(), read_condition_map(file)
loaded.load_state_dict(load_file(file))
share_timesteps(loaded, condition_map=stored.condition_map, **stored.argument)
print("map in the file:", stored.condition_map)
with torch.no_grad():
    found, expected = (net(noisy_latents, 99, text).sample for net in (loaded, unet))
print("the loaded model computes the same:", torch.equal(found, expected))
