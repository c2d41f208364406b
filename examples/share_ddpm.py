"""E-TSDM in a DDPM loop as in denoising-diffusion-pytorch: network `f(x, time)` inside a module that draws t and adds the noise."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from etsdm.data import Digits
from etsdm.interop import share_timesteps, timestep_sharing


class Unet(nn.Module):
    """A small network that embeds `time`."""

    def __init__(self, dim=32):
        super().__init__()
        self.register_buffer("frequencies", torch.logspace(0, -4, dim // 2))
        self.time_mlp = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))
        self.first, self.last = nn.Conv2d(1, dim, 3, padding=1), nn.Conv2d(dim, 1, 3, padding=1)

    def forward(self, x, time):
        angles = time[:, None] * self.frequencies
        shift = self.time_mlp(torch.cat([angles.sin(), angles.cos()], 1))
        return self.last(F.gelu(self.first(x) + shift[:, :, None, None]))


class GaussianDiffusion(nn.Module):
    """Linear schedule of 1000 timesteps, noise prediction, weights from the signal-to-noise ratio."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.register_buffer("alphas_cumprod", torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0))

    def forward(self, images):
        t, noise = torch.randint(0, 1000, images.shape[:1]), torch.randn_like(images)
        a = self.alphas_cumprod[t].reshape(-1, 1, 1, 1)  # true t: the noise level and the loss weight
        loss = (self.model(a.sqrt() * images + (1 - a).sqrt() * noise, t) - noise).square().mean((1, 2, 3))
        return (loss * (5 * (1 - a) / a).clamp(max=1).flatten()).mean()


digits, model = Digits().open("train"), Unet()
# The fix. The network of denoising-diffusion-pytorch is known; this one names its argument.
sharing = share_timesteps(model, t_tilde=100, n=5, argument="time", unit="timesteps")
diffusion = GaussianDiffusion(model)
optimizer = torch.optim.Adam(diffusion.parameters(), lr=1e-3)
for step in range(20):
    loss = diffusion(digits.batch(range(64 * step, 64 * step + 64)).pixels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()

ema = copy.deepcopy(model)  # shared too, with its own weights
print("the network receives:", sharing.timestep_map(torch.tensor([0, 19, 20, 99, 100, 999])).tolist())
print("the copy is shared:", timestep_sharing(ema) is not None)
x, t = torch.randn(2, 1, 8, 8), torch.tensor([39, 99])
mapped = ema(x, t)
timestep_sharing(ema).remove()
print("equal to a call with f(t):", torch.equal(mapped, ema(x, torch.tensor([20, 80]))))
