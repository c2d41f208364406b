"""Bridges to other libraries: their networks, pipelines and files as denoisers, converters of their checkpoints."""

from etsdm.interop.convert import ConversionReport, Options, convert
from etsdm.interop.metadata import condition_map_metadata, read_condition_map, write_condition_map
from etsdm.interop.open_model import open_model
from etsdm.interop.scheduler import SchedulerSharing, share_scheduler
from etsdm.interop.share import TimestepSharing, share_timesteps, timestep_sharing
from etsdm.interop.wrap import wrap

__all__ = [
    "ConversionReport",
    "Options",
    "SchedulerSharing",
    "TimestepSharing",
    "condition_map_metadata",
    "convert",
    "open_model",
    "read_condition_map",
    "share_scheduler",
    "share_timesteps",
    "timestep_sharing",
    "wrap",
    "write_condition_map",
]
