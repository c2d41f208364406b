"""Training that also learns the variance of sampling steps (Nichol and Dhariwal 2021).

    L = L_simple + lambda T L_t                                                                            (Eq. 16)
    L_t = KL(q(x_s | x_t, x0) || p(x_s | x_t))  for t >= 1,    L_0 = -log p(x0 | x_t)                      (Eq. 5, 6)

L_simple is the squared error of F, and T L_t at a uniform time t estimates the variational bound L_vlb, the sum over all T. s is
the timestep before t. Both distributions are Gaussian, with means that differ by the error of x0 alone,

    mean(q) = (alpha_s beta_t / sigma_t^2) x0 + (alpha_t sigma_s^2 / (alpha_s sigma_t^2)) x_t,
    mean(p) = the same of the predicted x0,   var(q) = beta~_t,   var(p) = the learned one (see `etsdm.denoisers.learned_variance`).

L_0 is the probability of a value of 8 bits, that of the interval of width 2/255 around it (Ho et al. 2020, Eq. 13), by the
approximation of the normal distribution function in the article's code,

    Phi(z) = (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3)))/2.

As there, L_t is the mean over the elements of an image, in bits; no gradient of it reaches F; predicted x0 are not clipped; log
beta~_0, which is infinite, is replaced by log beta~_1; and a probability counts as 1e-12 or more.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch
from pydantic import PositiveFloat
from torch import Tensor

from etsdm.denoisers.config import Asked
from etsdm.denoisers.learned_variance import learned_log_variance
from etsdm.denoisers.prediction import Prediction
from etsdm.denoisers.protocol import Predictor
from etsdm.errors import PartError
from etsdm.losses.mse import MSE, Loss, Noisy
from etsdm.registry import losses
from etsdm.schedules import Schedule
from etsdm.targets import X0

__all__ = ["Hybrid", "gaussian_kl", "log_probability"]

HALF_BIN = 1 / 255
LEAST_PROBABILITY = 1e-12
ALMOST_ONE = 0.999  # beyond it a value is the first or last of the 256
FAR = 1e4  # standard deviations; infinity would make NaN of 0 times it in the gradient


def gaussian_kl(gap: Tensor, log_variance_q: Tensor, log_variance_p: Tensor) -> Tensor:
    """KL(q || p) of two normal distributions, elementwise, in nats.

    Args:
        gap: difference of their means, any shape.
        log_variance_q: log variance of q, broadcasting against it.
        log_variance_p: log variance of p, likewise.
    """
    wider = log_variance_p - log_variance_q
    # expm1: where the variances are equal, the difference of 1 and exp would be all rounding error.
    return 0.5 * (wider + torch.expm1(-wider) + gap.square() * torch.exp(-log_variance_p))


def log_probability(x0: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Log probability that a normal distribution, rounded to 8 bits, gives a value; elementwise, in nats.

    Args:
        x0: k/127.5 - 1 with k = 0..255, any shape.
        mean: mean of the distribution, same shape.
        log_variance: its log variance, same shape.

    Returns:
        At least log 1e-12. The first and the last value also have what is beyond them, so that all add up to 1.
    """
    scale = torch.exp(-0.5 * log_variance)
    low = torch.where(x0 < -ALMOST_ONE, -FAR, (x0 - mean - HALF_BIN) * scale)
    high = torch.where(x0 > ALMOST_ONE, FAR, (x0 - mean + HALF_BIN) * scale)
    # The same interval mirrored to below the mean, where single precision can tell small probabilities from none.
    mirrored = low + high > 0
    low, high = torch.where(mirrored, -high, low), torch.where(mirrored, -low, high)
    return (_phi(high) - _phi(low)).clamp(min=LEAST_PROBABILITY).log()


def _phi(z: Tensor) -> Tensor:
    # (1 + tanh u)/2 is sigmoid(2 u), which keeps its digits where it is small.
    return torch.sigmoid(math.sqrt(8 / math.pi) * (z + 0.044715 * z**3))


class _Step(NamedTuple):
    """From t to the timestep before; each (B, 1, 1, 1), float64. Field share: that of x0 in the mean of x_s."""

    log_beta: Tensor
    log_posterior: Tensor
    share: Tensor

    @classmethod
    def of(cls, schedule: Schedule, noisy: Noisy) -> _Step:
        t = noisy.t.reshape(noisy.alpha.shape)
        later = t.clamp(min=1)
        (alpha, sigma), (alpha_s, sigma_s) = schedule.alpha_sigma(later), schedule.alpha_sigma(later - 1)
        beta = 1 - (alpha / alpha_s).square()
        log_posterior = torch.log(beta * (sigma_s / sigma).square())
        # Before the first timestep is the clean image: beta = 1 - alpha^2.
        return cls(torch.where(t < 1, noisy.sigma.square(), beta).log(), log_posterior, alpha_s * beta / sigma.square())


@losses.register("hybrid")
class Hybrid(Loss):
    """Squared error plus the variational bound, which teaches the variance alone (Nichol and Dhariwal 2021, Eq. 16).

    For a network with twice the image's output channels on a schedule of timesteps. `vlb_weight` is lambda, the weight of the whole
    bound in bits per element: with the article's 0.001 and T = 1000 a term counts T/1000 = 1 times, like `RESCALED_MSE` of the
    article's code; its `MSE` counts it once whatever T is, which is vlb_weight = 1/T. `simple` is the squared error, with its space
    and weighting. The times have to be uniform for the sum to be the bound.

    The last term takes x0 for 8-bit images in [-1, 1]; for latents it is that same formula and no probability (Peebles and Xie
    2023 train so). Between timesteps, which only some time samplers draw, s is t - 1, and L_0 stands for t < 1.
    """

    learns_variance: ClassVar[bool] = True

    vlb_weight: PositiveFloat = 0.001
    simple: MSE = MSE()

    def check(self, denoiser: Asked) -> None:
        """Raises PartError where the variational bound is undefined: without two timesteps, without noise at the first, or without
        x0 at the last."""
        schedule, target = denoiser.schedule, denoiser.target
        found = f"schedule {schedule.type_name!r}"
        if not schedule.is_discrete:
            raise PartError("loss", f"{found} has no timesteps, of which hybrid's bound is a sum; give a discrete one such as 'linear'")
        if schedule.horizon < 2:
            message = f"{found} has {schedule.horizon:g} timestep, and hybrid's bound needs a step between two; give 2 timesteps or more"
            raise PartError("loss", message)
        if schedule.sigma(0.0) == 0:
            message = f"{found} has no noise at its first timestep, where hybrid's variance is then 0; give one whose sigma starts above 0"
            raise PartError("loss", message)
        if target.needs_signal and schedule.alpha(schedule.domain[1]) == 0:
            message = f"{found} ends at alpha = 0, where target {target.type_name!r} does not determine the x0 of hybrid's bound"
            raise PartError("loss", f"{message}; give target 'v'")

    def per_image(self, denoiser: Predictor, x0: Tensor, t: Tensor, eps: Tensor, **cond: Tensor) -> Tensor:
        """The squared error plus vlb_weight times T times the term of the bound at t, from one network call; see `Loss.per_image`.

        Raises:
            PartError: the network learns no variance, or the bound does not exist on its schedule.
        """
        self.check(denoiser)
        noisy = Noisy.of(denoiser, x0, t, eps)
        prediction = denoiser.predict(noisy.x, noisy.t, **cond)
        simple = self.simple.of_output(denoiser, prediction.output, noisy, x0, eps)
        return simple + self.vlb_weight * denoiser.schedule.horizon * _bits(denoiser, prediction, noisy, x0, eps)


def _bits(denoiser: Predictor, prediction: Prediction, noisy: Noisy, x0: Tensor, eps: Tensor) -> Tensor:
    """L_t of each image in bits per element, (B,)."""
    if prediction.variance_logit is None:
        message = "hybrid trains a variance, which the network does not learn"
        raise PartError("loss", f"{message}; give a backbone whose out_channels are twice the image's")
    _, t, alpha, sigma = noisy
    target, step = denoiser.target, _Step.of(denoiser.schedule, noisy)
    log_variance = learned_log_variance(prediction.variance_logit, step.log_beta, step.log_posterior)
    output = prediction.output.detach().to(log_variance.dtype)
    # From that of F, because the difference of two x0 would lose the digits of single precision near alpha = 0.
    error = (output - target.training_target(x0, eps, alpha, sigma)) * target.error_factor(X0(), alpha, sigma).to(output.dtype)
    kl = gaussian_kl(step.share.to(error.dtype) * error, step.log_posterior.to(error.dtype), log_variance)
    decoded = log_probability(x0, x0 + error, log_variance)
    return torch.where(t.reshape(alpha.shape) < 1, -decoded, kl).flatten(1).mean(1) / math.log(2)
