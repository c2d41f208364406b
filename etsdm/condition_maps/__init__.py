"""Condition maps f(t), and time inputs: the conversion to the value passed to the time embedding."""

from etsdm.condition_maps.base import ConditionMap
from etsdm.condition_maps.compose import Compose
from etsdm.condition_maps.constant import Constant
from etsdm.condition_maps.edm import EDM_PARTITIONS
from etsdm.condition_maps.identity import Identity
from etsdm.condition_maps.intervals import ETSDM, Intervals, SharedIntervals
from etsdm.condition_maps.inverse import Inverse, InverseSigmoid
from etsdm.condition_maps.noise_level import LogSNR, Sigma
from etsdm.condition_maps.remap import Remap
from etsdm.condition_maps.time_inputs import Auto, LogSigma, Scaled, TimeInput, Timesteps

__all__ = [
    "EDM_PARTITIONS",
    "ETSDM",
    "Auto",
    "Compose",
    "ConditionMap",
    "Constant",
    "Identity",
    "Intervals",
    "Inverse",
    "InverseSigmoid",
    "LogSNR",
    "LogSigma",
    "Remap",
    "Scaled",
    "SharedIntervals",
    "Sigma",
    "TimeInput",
    "Timesteps",
]
