"""Sampling: images from a denoiser, at once or by a job that may be killed, continued and shared."""

from etsdm.sampling.config import Sampling
from etsdm.sampling.export import write_grid, write_npz, write_trajectory, write_zip
from etsdm.sampling.generate import resolve_sampler, sample, sample_batches, starting_noise, trajectory_of
from etsdm.sampling.img2img import img2img
from etsdm.sampling.inversion import invert
from etsdm.sampling.job import Progress, SamplingTask, Store, generate_missing
from etsdm.sampling.stores import PngStore, SampledImages, TensorStore

__all__ = [
    "PngStore",
    "Progress",
    "SampledImages",
    "Sampling",
    "SamplingTask",
    "Store",
    "TensorStore",
    "generate_missing",
    "img2img",
    "invert",
    "resolve_sampler",
    "sample",
    "sample_batches",
    "starting_noise",
    "trajectory_of",
    "write_grid",
    "write_npz",
    "write_trajectory",
    "write_zip",
]
