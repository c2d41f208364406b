"""Networks, pipelines and files of other libraries."""

from etsdm.interop.share import TimestepSharing, share_timesteps, timestep_sharing

__all__ = ["TimestepSharing", "share_timesteps", "timestep_sharing"]
