"""Many images into a folder, by a job that may be killed, continued and shared."""

from etsdm.sampling_job.archives import write_grid, write_npz, write_trajectory, write_zip
from etsdm.sampling_job.drawn_images import DrawnImages
from etsdm.sampling_job.folder import JobFolder
from etsdm.sampling_job.tensors import TensorStore
from etsdm.sampling_job.work import Drawing, Progress, Store, carry_out

__all__ = [
    "Drawing",
    "DrawnImages",
    "JobFolder",
    "Progress",
    "Store",
    "TensorStore",
    "carry_out",
    "write_grid",
    "write_npz",
    "write_trajectory",
    "write_zip",
]
