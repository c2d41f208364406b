"""Time-awareness: the part of a network's output that depends on the time it receives.

    E || F(x_t, t) - F(x_t, t') ||  /  E || F(x_t, t) ||        mean over images and over pairs (t, t') far apart

Both outputs have the same x_t. It is 0 for a network that ignores its time input, whose Lipschitz constant in time is then 0 for a reason
that has nothing to do with smoothness: group normalisation, for example, removes a time embedding that is added to all positions of a
channel where a group is one channel.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from etsdm.analysis.lipschitz import Batches, batches_of
from etsdm.analysis.running_moments import Moments
from etsdm.denoisers.noisy_batch import NoisyBatch
from etsdm.denoisers.protocol import DenoiserLike, refuse_incomplete
from etsdm.errors import PartError
from etsdm.randomness import per_sample_normal
from etsdm.schedules import Schedule

__all__ = ["TimeAwareness", "far_pairs", "time_awareness"]

PARTS = 4  # of the range of times, at whose ends the network is called
FAR = 2  # parts between two times that are far apart


class TimeAwareness(NamedTuple):
    """Change of the output under the condition of a far time; tensors are float64 on the CPU.

    Fields: value, the sum of `change` divided by that of `norm`; t and other, the pairs of times, in the schedule's unit, (P,); change,
    mean of ||F(x_t, t) - F(x_t, other)||, (P,); norm, mean of ||F(x_t, t)||, (P,); images, number of images.
    """

    value: float
    t: Tensor
    other: Tensor
    change: Tensor
    norm: Tensor
    images: int


def far_pairs(schedule: Schedule) -> tuple[Tensor, list[tuple[int, int]]]:
    """Times at equal distances over the whole schedule, in log t where t is a noise level, and the pairs that are half of it apart or more.

    Returns:
        Times in the schedule's unit, float64, (M,); indices (i, j) of the pairs, in both orders.
    """
    low, high = min(schedule.t_min, schedule.domain[1]), schedule.domain[1]
    shares = torch.arange(PARTS + 1, dtype=torch.float64) / PARTS
    times = low * (high / low) ** shares if schedule.time_is_noise_level else low + (high - low) * shares
    if schedule.is_discrete:
        times = times.round()
    times[-1] = high
    count = range(PARTS + 1)
    return times, [(i, j) for i in count for j in count if abs(i - j) >= FAR]


@torch.no_grad()
def time_awareness(
    denoiser: DenoiserLike, images: Batches, *, seed: int = 0, batch_size: int = 128, y: Tensor | None = None
) -> TimeAwareness:
    """Measures the time-awareness of a denoiser, see the module.

    Args:
        denoiser: trained, in eval mode, or exact.
        images: clean images, as for `lipschitz_curve`.
        seed: seed of the images' noise, the same for all times.
        batch_size: images in a forward pass.
        y: class labels, (N,), for a class-conditional denoiser, where `images` is one tensor.

    Raises:
        PartError: there are no images.
    """
    refuse_incomplete(denoiser)
    times, pairs = far_pairs(denoiser.schedule)
    alpha, sigma = denoiser.schedule.alpha_sigma(times)
    changes, norms = Moments(len(pairs)), Moments(len(times))
    for x0, cond in batches_of(images, y, batch_size):
        eps = per_sample_normal(seed, "diagnosis/noise", range(norms.n, norms.n + len(x0)), x0.shape[1:])
        batch = NoisyBatch.on(denoiser.device, x0, eps, cond)
        change = torch.zeros(len(pairs), len(x0), dtype=torch.float64)
        norm = torch.zeros(len(times), len(x0), dtype=torch.float64)
        for i in range(len(times)):
            x, t = batch.at(alpha[i].item(), sigma[i].item()), _rows(times[i], batch)
            output = denoiser.output(x, t, **batch.cond).double()
            norm[i] = _norm(output)
            for k, (first, j) in enumerate(pairs):
                if first == i:
                    other = denoiser.output(x, t, condition_t=_rows(times[j], batch), **batch.cond).double()
                    change[k] = _norm(output - other)
        changes.add(change)
        norms.add(norm)
    if not norms.n:
        raise PartError("images", "none are given; give one or more")
    here, there = (torch.tensor(column) for column in zip(*pairs, strict=True))
    norm = norms.mean[here]
    total = norm.sum().item()
    value = changes.mean.sum().item() / total if total else 0.0
    return TimeAwareness(value, times[here], times[there], changes.mean, norm, norms.n)


def _rows(t: Tensor, batch: NoisyBatch) -> Tensor:
    return t.to(batch.x0.device).repeat(len(batch.x0))


def _norm(values: Tensor) -> Tensor:
    norm: Tensor = values.flatten(1).norm(dim=1).cpu()
    return norm
