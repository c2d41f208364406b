"""E-TSDM for a DiT of class-conditional images, compiled, with a learned null class and v prediction."""

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DDPMScheduler, DiTTransformer2DModel

from etsdm.data import Digits
from etsdm.interop import share_scheduler, share_timesteps

digits = Digits().open("train")
sizes = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 16, "norm_num_groups": 1, "num_embeds_ada_norm": 11}
dit = DiTTransformer2DModel(sample_size=8, in_channels=1, out_channels=1, patch_size=2, **sizes)
# The fix. A DiT embeds t once in every block, together with the class; the map is before the argument, once.
sharing = share_timesteps(dit, t_tilde=100, n=5)
compiled = torch.compile(dit, backend="eager", fullgraph=True)

noise_scheduler = DDPMScheduler(prediction_type="v_prediction")
optimizer = torch.optim.AdamW(dit.parameters(), lr=1e-3)
for step in range(10):
    batch = digits.batch(range(64 * step, 64 * step + 64))
    images, labels = batch.pixels, torch.where(torch.rand(64) < 0.1, 10, batch.labels)
    noise, timesteps = torch.randn_like(images), torch.randint(0, 1000, (64,))
    noisy_images = noise_scheduler.add_noise(images, noise, timesteps)
    prediction = compiled(noisy_images, timestep=timesteps, class_labels=labels).sample
    loss = F.mse_loss(prediction, noise_scheduler.get_velocity(images, noise, timesteps))  # true t
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


@torch.no_grad()
def sample(scheduler):
    scheduler.set_timesteps(40)
    x, labels = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3])
    for t in scheduler.timesteps:
        x = scheduler.step(dit(x, timestep=t.expand(4), class_labels=labels).sample, t, x).prev_sample
    return x


dit.eval()
with_the_network = sample(DDIMScheduler(prediction_type="v_prediction"))
sharing.remove()
scheduler = DDIMScheduler(prediction_type="v_prediction")
share_scheduler(scheduler)  # for a network that cannot be changed: the same map, put into the scheduler
print("network and scheduler give the same samples:", torch.equal(sample(scheduler), with_the_network))
