"""Sub-intervals of sigma for E-TSDM on EDM, whose time is sigma itself (Karras et al. 2022).

The paper reports a gain on EDM and does not specify the sub-intervals. Three readings, each of five sub-intervals that share their
left edge, with 0 raised to EDM's sigma_min because the time input takes a logarithm:

    edm-vp-equivalent   sigma/alpha = sqrt(exp(B(t)) - 1) of the linear VP process at t = 0, 0.02, ..., 0.1
    edm-quantile        the lowest tenth of EDM's training distribution, ln(sigma) ~ N(-1.2, 1.2^2), in equal parts
    edm-log             equal parts of ln(sigma) from sigma_min to the last edge of the first reading

The first is the default here: it covers the noise levels that the paper's t_tilde = 0.1 covers on its own process.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from etsdm.condition_maps.intervals import SharedIntervals
from etsdm.registry import condition_maps

__all__ = ["EDM_PARTITIONS"]

SUB_INTERVALS = 5
SIGMA_MIN = 0.002  # EDM's smallest noise level in sampling
P_MEAN, P_STD = -1.2, 1.2  # of ln(sigma) in EDM's training


def _vp_equivalent() -> tuple[float, ...]:
    times = [0.1 * i / SUB_INTERVALS for i in range(SUB_INTERVALS + 1)]
    return tuple(math.sqrt(math.expm1(0.1 * t + 9.95 * t * t)) for t in times)


def _quantile() -> tuple[float, ...]:
    log_sigma = NormalDist(P_MEAN, P_STD)
    return (0.0, *(math.exp(log_sigma.inv_cdf(0.1 * i / SUB_INTERVALS)) for i in range(1, SUB_INTERVALS + 1)))


def _log() -> tuple[float, ...]:
    first, last = math.log(SIGMA_MIN), math.log(_vp_equivalent()[-1])
    return (0.0, *(math.exp(first + (last - first) * i / SUB_INTERVALS) for i in range(1, SUB_INTERVALS + 1)))


EDM_PARTITIONS = {"edm-vp-equivalent": _vp_equivalent(), "edm-quantile": _quantile(), "edm-log": _log()}

for name, edges in EDM_PARTITIONS.items():
    reading = name.removeprefix("edm-")
    condition_maps.preset(name, SharedIntervals, f"E-TSDM on EDM, {reading} sub-intervals of sigma", edges=edges, floor=SIGMA_MIN)
