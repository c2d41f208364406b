"""Networks, pipelines and files of other libraries."""

from etsdm.interop.metadata import condition_map_metadata, read_condition_map, write_condition_map
from etsdm.interop.scheduler import SchedulerSharing, share_scheduler
from etsdm.interop.share import TimestepSharing, share_timesteps, timestep_sharing

__all__ = [
    "SchedulerSharing",
    "TimestepSharing",
    "condition_map_metadata",
    "read_condition_map",
    "share_scheduler",
    "share_timesteps",
    "timestep_sharing",
    "write_condition_map",
]
