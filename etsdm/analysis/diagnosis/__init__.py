"""Diagnosis of a denoiser: steepness in time, time-awareness, loss and stability, the effect of shared conditions, and advice."""

from etsdm.analysis.diagnosis.advice import Advice, Verdict, advise, verdict_of
from etsdm.analysis.diagnosis.loss import LossCurve, loss_curve
from etsdm.analysis.diagnosis.measure import Measurements, measure, rows_per_image
from etsdm.analysis.diagnosis.shared_conditions import SharedConditions, proposed_map, share_of_updates
from etsdm.analysis.diagnosis.singularity import is_singular
from etsdm.analysis.diagnosis.time_awareness import TimeAwareness, time_awareness

__all__ = [
    "Advice",
    "LossCurve",
    "Measurements",
    "SharedConditions",
    "TimeAwareness",
    "Verdict",
    "advise",
    "is_singular",
    "loss_curve",
    "measure",
    "proposed_map",
    "rows_per_image",
    "share_of_updates",
    "time_awareness",
    "verdict_of",
]
