"""Bridges to other libraries: their networks, pipelines and files as denoisers, converters, exports, and the fix for their networks."""

from etsdm.interop.convert import ConversionReport, Options, convert
from etsdm.interop.export.formats import export_denoiser
from etsdm.interop.metadata import condition_map_metadata, read_condition_map, write_condition_map
from etsdm.interop.open_model import open_model
from etsdm.interop.scheduler import SchedulerSharing, share_scheduler
from etsdm.interop.share import TimestepSharing, share_timesteps, timestep_sharing
from etsdm.interop.wrapping import wrap

__all__ = [
    "ConversionReport",
    "Options",
    "SchedulerSharing",
    "TimestepSharing",
    "condition_map_metadata",
    "convert",
    "export_denoiser",
    "open_model",
    "read_condition_map",
    "share_scheduler",
    "share_timesteps",
    "timestep_sharing",
    "wrap",
    "write_condition_map",
]
