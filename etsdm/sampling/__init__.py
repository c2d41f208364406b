"""Sampling: images from a denoiser, at once or by a job that may be killed, continued and shared."""

from etsdm.sampling.export import write_grid, write_npz, write_trajectory, write_zip
from etsdm.sampling.generate import draw, resolve_sampler, sample, sample_batches, starting_noise
from etsdm.sampling.img2img import img2img
from etsdm.sampling.inversion import invert
from etsdm.sampling.job import Drawing, Progress, Store, carry_out
from etsdm.sampling.stores import DrawnImages, JobFolder, TensorStore

__all__ = [
    "Drawing",
    "DrawnImages",
    "JobFolder",
    "Progress",
    "Store",
    "TensorStore",
    "carry_out",
    "draw",
    "img2img",
    "invert",
    "resolve_sampler",
    "sample",
    "sample_batches",
    "starting_noise",
    "write_grid",
    "write_npz",
    "write_trajectory",
    "write_zip",
]
