"""The hybrid loss, which also trains the variance of sampling steps (Nichol and Dhariwal 2021).

    L = L_simple + lambda T L_t                                                                            (Eq. 16)
    L_t = KL(q(x_s | x_t, x0) || p(x_s | x_t))  for t >= 1,    L_0 = -log p(x0 | x_t)                      (Eq. 5, 6)

L_simple is the squared error of F, and T L_t at a uniform time t estimates the variational bound L_vlb, the sum over all T. s is
the timestep before t. Both distributions are Gaussian, with means that differ by the error of x0 alone,

    mean(q) = (alpha_s beta_t / sigma_t^2) x0 + (alpha_t sigma_s^2 / (alpha_s sigma_t^2)) x_t,
    mean(p) = the same with the predicted x0,   var(q) = beta~_t,   var(p) as learned (see `etsdm.denoisers.learned_variance`).

L_0 is the negative log probability of an 8-bit value, that of the interval of width 2/255 around it (Ho et al. 2020, Eq. 13), with the
approximation of the normal distribution function in the article's code,

    Phi(z) = (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3)))/2.

As there, L_t is the mean over the elements of an image, in bits; its gradient does not reach F; predicted x0 are not clipped; log
beta~_0, which is infinite, is replaced by log beta~_1; and probabilities are clamped to 1e-12 or more.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple, Self

import torch
from pydantic import PositiveFloat
from torch import Tensor

from etsdm.denoisers.config import DenoiserConfig
from etsdm.denoisers.learned_variance import learned_log_variance
from etsdm.denoisers.noisy_batch import NoisyBatch
from etsdm.denoisers.prediction import Prediction
from etsdm.denoisers.protocol import DenoiserLike
from etsdm.errors import PartError
from etsdm.losses.mse import MSE, Loss, NoiseLevel
from etsdm.registry import losses
from etsdm.schedules import Schedule
from etsdm.targets import X0

__all__ = ["Hybrid", "gaussian_kl", "log_probability"]

HALF_BIN_WIDTH = 1 / 255
MIN_PROBABILITY = 1e-12
OUTER_BIN_VALUE = 0.999  # values beyond it are in the first or last of the 256 bins
OUTER_BIN_Z = 1e4  # standard deviations, in place of infinity, which times 0 would be NaN in the gradient


def gaussian_kl(gap: Tensor, log_variance_q: Tensor, log_variance_p: Tensor) -> Tensor:
    """KL(q || p) of two normal distributions, elementwise, in nats.

    Args:
        gap: difference of the means, any shape.
        log_variance_q: log variance of q, broadcasting against gap.
        log_variance_p: log variance of p, broadcasting against gap.
    """
    wider = log_variance_p - log_variance_q
    # expm1, because between equal variances exp minus 1 would be all rounding error.
    return 0.5 * (wider + torch.expm1(-wider) + gap.square() * torch.exp(-log_variance_p))


def log_probability(x0: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Log probability of an 8-bit value under a discretised normal distribution; elementwise, in nats.

    Args:
        x0: k/127.5 - 1 with k = 0..255, any shape.
        mean: mean of the distribution, same shape.
        log_variance: log variance of the distribution, same shape.

    Returns:
        At least log 1e-12. The first and last bins extend to infinity, so that the probabilities add up to 1.
    """
    scale = torch.exp(-0.5 * log_variance)
    low = torch.where(x0 < -OUTER_BIN_VALUE, -OUTER_BIN_Z, (x0 - mean - HALF_BIN_WIDTH) * scale)
    high = torch.where(x0 > OUTER_BIN_VALUE, OUTER_BIN_Z, (x0 - mean + HALF_BIN_WIDTH) * scale)
    # Mirrored to below the mean, where single precision resolves small probabilities.
    mirrored = low + high > 0
    low, high = torch.where(mirrored, -high, low), torch.where(mirrored, -low, high)
    return (_phi(high) - _phi(low)).clamp(min=MIN_PROBABILITY).log()


def _phi(z: Tensor) -> Tensor:
    """Approximate normal distribution function; see the module."""
    # (1 + tanh u)/2 is sigmoid(2 u), which keeps its digits where it is small.
    return torch.sigmoid(math.sqrt(8 / math.pi) * (z + 0.044715 * z**3))


class _Step(NamedTuple):
    """Step from t to the timestep before; each (B, 1, 1, 1), float64.

    Fields: log_beta, log beta_t; log_posterior, log beta~_t; x0_weight, coefficient of x0 in the mean of x_s.
    """

    log_beta: Tensor
    log_posterior: Tensor
    x0_weight: Tensor

    @classmethod
    def of(cls, schedule: Schedule, level: NoiseLevel) -> Self:
        t = level.t.reshape(level.alpha.shape)
        later = t.clamp(min=1)
        (alpha, sigma), (alpha_s, sigma_s) = schedule.alpha_sigma(later), schedule.alpha_sigma(later - 1)
        beta = 1 - (alpha / alpha_s).square()
        log_posterior = torch.log(beta * (sigma_s / sigma).square())
        # Before the first timestep is the clean image: beta = 1 - alpha^2.
        return cls(torch.where(t < 1, level.sigma.square(), beta).log(), log_posterior, alpha_s * beta / sigma.square())


@losses.register("hybrid")
class Hybrid(Loss):
    """Squared error plus the variational bound, which trains the variance alone (Nichol and Dhariwal 2021, Eq. 16).

    For a network with twice the image's output channels on a discrete schedule; the sum is the bound for uniform times. L_0 is for
    8-bit images in [-1, 1]; on latents the same formula is no probability (Peebles and Xie 2023 train so). Between timesteps, which
    only some time samplers draw, s is t - 1, and L_0 applies for t < 1.

    Attributes:
        vlb_weight: lambda, the weight of the whole bound in bits per element. With the article's 0.001 and T = 1000 a term counts
            T/1000 = 1 times, like `RESCALED_MSE` of the article's code; its `MSE` counts a term once for any T: vlb_weight = 1/T.
        simple: the squared error, with its space and weighting.
    """

    learns_variance: ClassVar[bool] = True

    vlb_weight: PositiveFloat = 0.001
    simple: MSE = MSE()

    def check(self, denoiser: DenoiserConfig) -> None:
        """Raises PartError where the variational bound is undefined: fewer than two timesteps, no noise at the first, or no x0 at the
        last."""
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
        self.simple.check_weights(denoiser, ("loss", "simple"))

    def per_image(self, denoiser: DenoiserLike, x0: Tensor, t: Tensor, eps: Tensor, **cond: Tensor) -> Tensor:
        """Squared error plus vlb_weight times T times the term of the bound at t, from one network call; see `Loss.per_image`.

        Raises:
            PartError: the network learns no variance, or the bound is undefined on its schedule.
        """
        self.check(denoiser)
        batch, level = NoisyBatch(x0, eps, cond), NoiseLevel.of(denoiser, t, x0)
        prediction = denoiser.predict(batch.at(level.alpha, level.sigma), level.t, **cond)
        simple = self.simple.of_output(denoiser, prediction.output, batch, level)
        return simple + self.vlb_weight * denoiser.schedule.horizon * _bits(denoiser, prediction, batch, level)


def _bits(denoiser: DenoiserLike, prediction: Prediction, batch: NoisyBatch, level: NoiseLevel) -> Tensor:
    """L_t of each image in bits per element, (B,)."""
    if prediction.variance_logit is None:
        message = "hybrid trains a variance, which the network does not learn"
        raise PartError("loss", f"{message}; give a backbone whose out_channels are twice the image's")
    t, alpha, sigma = level
    target, step = denoiser.target, _Step.of(denoiser.schedule, level)
    log_variance = learned_log_variance(prediction.variance_logit, step.log_beta, step.log_posterior)
    output = prediction.output.detach().to(log_variance.dtype)
    # The error of x0 from that of F, because the difference of two x0 would lose the digits of single precision near alpha = 0.
    truth = target.training_target(batch.x0, batch.eps, alpha, sigma)
    error = (output - truth) * target.error_factor(X0(), alpha, sigma).to(output.dtype)
    kl = gaussian_kl(step.x0_weight.to(error.dtype) * error, step.log_posterior.to(error.dtype), log_variance)
    decoded = log_probability(batch.x0, batch.x0 + error, log_variance)
    return torch.where(t.reshape(alpha.shape) < 1, -decoded, kl).flatten(1).mean(1) / math.log(2)
