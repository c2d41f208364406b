"""The log-likelihood of images under a denoiser's probability flow (Song, Sohl-Dickstein et al. 2021,
"Score-Based Generative Modeling through Stochastic Differential Equations", section 4.3 and Eq. 39-40).

In the angle phi = atan(sigma/alpha), and with r = sqrt(alpha^2 + sigma^2), the flow of z = x/r is

    dz/dphi = v/r,   v = alpha eps - sigma x0,

of any schedule, and regular at both ends: also at alpha = 0, and where sigma leaves t = 0 with an infinite slope. Along it

    log q(z(phi_0)) = log q(z(phi_T)) + integral from phi_0 to phi_T of tr(dv/dx) dphi,

and log q(x) = log q(z) - D log r. At the end q is taken for N(0, sigma_T^2 I). The trace is exact, by D vector-Jacobian products
a call, or Hutchinson's estimate e^T (dv/dx) e with E e e^T = I, by one for each probe e, which stays the same along the flow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from etsdm.denoisers.protocol import DenoiserLike, refuse_incomplete
from etsdm.denoisers.wrappers.base import on_device, wide_images
from etsdm.errors import PartError
from etsdm.randomness import SampleNoise, generator
from etsdm.schedules import Schedule

__all__ = ["Likelihood", "bits_per_dim", "dequantised", "exact_trace", "hutchinson_trace", "log_likelihood"]

Trace = Literal["hutchinson", "exact"]
Probe = Literal["rademacher", "gaussian"]

EDGE_SEARCH_POINTS = 2001  # times at which shared sub-intervals are looked for; one between two of them costs calls, not accuracy
EDGE = 1e-12  # of the horizon: above the slack with which maps take a time for an edge, below what a level can tell


class Likelihood(NamedTuple):
    """The log-likelihoods of a batch, float64 on the CPU.

    Fields: log_likelihood, in nats, (B,); se, its standard error over probes, 0 for an exact trace and NaN for a single probe, (B,);
    prior, the part of it that is the log density of the noise, (B,); noise, x at the end of the flow, (B, ...); nfe, network calls,
    each with its vector-Jacobian products.
    """

    log_likelihood: Tensor
    se: Tensor
    prior: Tensor
    noise: Tensor
    nfe: int


class Flow:
    """The flow of z and of the traces along it, as an ODE of one vector.

    Args:
        denoiser, cond: whose flow.
        x: images at the start, whose dtype and device the network gets.
        probes: (K, B, ...) for Hutchinson's traces; None for the exact one.
    """

    def __init__(self, denoiser: DenoiserLike, cond: dict[str, Tensor], x: Tensor, probes: Tensor | None) -> None:
        self.nfe = 0
        self._denoiser = denoiser
        self._cond = cond
        self._x = x
        self._probes = probes

    def follow(self, times: Sequence[float], rtol: float, atol: float) -> tuple[Tensor, Tensor]:
        """Goes from time to time, each way by itself. Returns: x at the end, (B, ...), and the traces' integrals, (B, K)."""
        schedule, count = self._denoiser.schedule, 1 if self._probes is None else len(self._probes)
        z = self._x.detach().double().cpu() / _polar(schedule, times[0])[1]
        state = np.concatenate([z.reshape(-1).numpy(), np.zeros(len(z) * count)])
        for start, end in pairwise(times):
            # A condition that is shared up to a time is another one there.
            inside = start, end if end == times[-1] else end - EDGE * schedule.horizon
            angles = _polar(schedule, start)[0], _polar(schedule, end)[0]
            solved = solve_ivp(partial(self._slopes, inside), angles, state, method="RK45", t_eval=angles[1:], rtol=rtol, atol=atol)
            if not solved.success:
                raise PartError("denoiser", f"its flow could not be followed ({solved.message.lower()}); give a larger rtol or atol")
            state = np.ascontiguousarray(solved.y[:, -1])
        return _polar(schedule, times[-1])[1] * self._z(state), torch.from_numpy(state[z.numel() :]).reshape(len(z), count)

    def _slopes(self, inside: tuple[float, float], phi: float, state: np.ndarray) -> np.ndarray:
        """The slopes of z, and of the traces' integrals behind it, at an angle between two times."""
        self.nfe += 1
        schedule = self._denoiser.schedule
        t = min(max(schedule.t_of_log_snr(-2 * math.log(math.tan(phi))).item(), inside[0]), inside[1])
        r = _polar(schedule, t)[1]
        with torch.enable_grad():
            x = (r * self._z(state)).to(self._x).requires_grad_()
            v = self._denoiser.predict(x, t, **self._cond).v
            traces = exact_trace(v, x) if self._probes is None else hutchinson_trace(v, x, self._probes)
        slopes = v.detach().double() / r
        return torch.cat([slopes.reshape(-1), traces.reshape(-1)]).cpu().numpy()

    def _z(self, state: np.ndarray) -> Tensor:
        """z, float64 on the CPU, in the shape of x."""
        return torch.from_numpy(state[: self._x.numel()]).reshape(self._x.shape)


def log_likelihood(
    denoiser: DenoiserLike,
    x: Tensor,
    *,
    trace: Trace = "hutchinson",
    probe: Probe = "rademacher",
    probes: int = 1,
    seed: int = 0,
    first: int = 0,
    t_eps: float | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    **cond: Tensor,
) -> Likelihood:
    """The log-likelihood of images, by an adaptive Runge-Kutta method (scipy's RK45) along the probability flow.

    A call costs one forward pass and, of D elements an image, D backward passes for the exact trace or `probes` for Hutchinson's;
    there are some hundreds of calls for trained networks. The error is controlled for the batch as a whole, so that the company
    of an image moves its value within the tolerances. Where a condition map shares conditions the flow has a kink at every edge;
    it is followed from edge to edge.

    Args:
        denoiser: trained, in eval mode, exact, or wrapped.
        x: images in the space of what is denoised, (B, *shape); latents where there is a first stage, of which this then is the
            density. They are taken as x at `t_eps`.
        trace: `exact`, for few dimensions, or `hutchinson`, an unbiased estimate.
        probe: the distribution of Hutchinson's probes.
        probes: how many, for one flow; two or more give a standard error.
        seed: seed of the probes; those of image k depend on it and on k alone.
        first: index of the first image.
        t_eps: where the flow starts; None for the schedule's first time, or where that is clean a hundred-thousandth of the horizon.
        rtol: relative tolerance of the integrator.
        atol: absolute tolerance of the integrator.
        **cond: further inputs of the network, for example labels `y` of shape (B,).

    Returns:
        The log-likelihoods.

    Raises:
        PartError: an option is unknown or out of range, or the integrator found no step that is short enough.
    """
    refuse_incomplete(denoiser)
    for name, value, known in (("trace", trace, Trace), ("probe", probe, Probe)):
        if value not in get_args(known):
            raise PartError(name, f"{value!r} is not known; give {' or '.join(get_args(known))}")
    if probes < 1:
        raise PartError("probes", f"{probes} is too few; give 1 or more")
    x, cond = on_device(denoiser, wide_images(x), cond)
    drawn = None if trace == "exact" else _probes(x, probe, probes, seed, first)
    times = _times(denoiser, t_eps)
    flow = Flow(denoiser, cond, x, drawn)
    noise, traces = flow.follow(times, rtol, atol)
    dims = x[0].numel()
    sigma = denoiser.schedule.sigma(times[-1]).item()
    prior = -noise.flatten(1).square().sum(1) / (2 * sigma**2) - dims * math.log(sigma * math.sqrt(2 * math.pi))
    (_, r), (_, r_end) = _polar(denoiser.schedule, times[0]), _polar(denoiser.schedule, times[-1])
    log_q = prior + dims * math.log(r_end / r) + traces.mean(1)
    return Likelihood(log_q, torch.zeros_like(log_q) if drawn is None else _standard_error(traces), prior, noise, flow.nfe)


def exact_trace(v: Tensor, x: Tensor) -> Tensor:
    """tr(dv/dx) of every row, by one vector-Jacobian product an element. Args: v, x: (B, ...). Returns: float64, (B,)."""
    flat = v.flatten(1)
    total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for d in range(flat.shape[1]):
        (row,) = torch.autograd.grad(flat[:, d].sum(), x, retain_graph=True)
        total += row.flatten(1)[:, d].double()
    return total


def hutchinson_trace(v: Tensor, x: Tensor, probes: Tensor) -> Tensor:
    """e^T (dv/dx) e of every row and probe. Args: v, x: (B, ...); probes: (K, B, ...). Returns: float64, (B, K)."""
    products = [torch.autograd.grad(v, x, grad_outputs=e, retain_graph=True)[0] * e for e in probes]
    return torch.stack([product.flatten(1).double().sum(1) for product in products], dim=1)


def bits_per_dim(log_likelihood: Tensor, dims: int, *, levels: int = 256) -> Tensor:
    """Bits per dimension of images whose values were integers and are spread over [-1, 1].

    -log_likelihood / (D log 2) + log2(levels / 2): a cell of one integer has the width 2 / levels, so that 256 levels add 7 bits. It
    bounds the bits of the integers from above where the noise inside the cells was added first (`dequantised`).

    Args:
        log_likelihood: in nats, any shape.
        dims: D, the number of elements of one image.
        levels: number of integers.

    Returns:
        Same shape.
    """
    return -log_likelihood / (dims * math.log(2)) + math.log2(levels / 2)


def dequantised(images: Tensor, *, seed: int = 0, first: int = 0) -> Tensor:
    """Images of 256 levels with uniform noise inside each level's cell: (u + U) / 128 - 1 for the integer u.

    Args:
        images: 2 u / 255 - 1 with integers u = 0, ..., 255, (B, C, H, W).
        seed: seed of U; that of image k depends on it and on k alone.
        first: index of the first image.

    Returns:
        In [-1, 1], in the dtype and shape of the images.
    """
    u = ((images + 1) * 127.5).round()
    streams = [generator(seed, "likelihood/dequantisation", first + k) for k in range(len(images))]
    noise = torch.stack([torch.rand(images.shape[1:], generator=stream) for stream in streams])
    return (u + noise.to(images)) / 128 - 1


def _probes(x: Tensor, probe: Probe, count: int, seed: int, first: int) -> Tensor:
    source = SampleNoise(seed, "likelihood/probes", range(first, first + len(x)))
    drawn = torch.stack([source.draw(x.shape[1:]) for _ in range(count)]).to(x)
    return torch.where(drawn < 0, -1.0, 1.0).to(x) if probe == "rademacher" else drawn


def _standard_error(values: Tensor) -> Tensor:
    """Standard error of the mean over columns; NaN for a single one."""
    count = values.shape[1]
    return values.std(1) / math.sqrt(count) if count > 1 else torch.full_like(values[:, 0], math.nan)


def _times(denoiser: DenoiserLike, t_eps: float | None) -> list[float]:
    """Start and end times of the flow, and between them the times at which the condition jumps."""
    schedule = denoiser.schedule
    low, high = schedule.domain
    if denoiser.target.needs_signal and schedule.alpha(high) == 0:
        high -= schedule.step  # where the noise says nothing of x0
    start = low if schedule.sigma(low) > 0 else low + 1e-5 * schedule.horizon
    if t_eps is not None:
        start = t_eps
    if not low <= start < high or schedule.sigma(start) == 0:
        raise PartError("t_eps", f"the flow cannot start from {start:g}; give a noisy time in [{low:g}, {high:g})")
    ends = denoiser.condition_map.shared_interval(torch.linspace(start, high, EDGE_SEARCH_POINTS, dtype=torch.float64), schedule)
    shared = ends[1] > ends[0]
    jumps = torch.cat([end[shared] for end in ends]).unique()
    return [start, *jumps[(jumps > start) & (jumps < high)].tolist(), high]


def _polar(schedule: Schedule, t: float) -> tuple[float, float]:
    """The angle phi and the length r of (alpha, sigma)."""
    alpha, sigma = (level.item() for level in schedule.alpha_sigma(t))
    return math.atan2(sigma, alpha), math.hypot(alpha, sigma)
