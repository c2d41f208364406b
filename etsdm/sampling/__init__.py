"""Sampling: images from a denoiser, as tensors or as a folder that may be generated with interruptions and by several processes."""

from etsdm.sampling.conditions import Conditions, ReducedImages, read_low_res
from etsdm.sampling.config import Sampling
from etsdm.sampling.export import write_animation, write_grid, write_npz, write_zip
from etsdm.sampling.folder import GeneratedFolder, generate_folder
from etsdm.sampling.generate import resolve_sampler, sample, sample_batches, starting_noise, trajectory_of
from etsdm.sampling.img2img import img2img
from etsdm.sampling.inversion import invert
from etsdm.sampling.job import Progress, SamplingTask, generate_missing
from etsdm.sampling.png_store import PngStore
from etsdm.sampling.sampled_model import Guidance, SampledModel
from etsdm.sampling.stores import Store
from etsdm.sampling.tensor_store import SampledImages, TensorStore

__all__ = [
    "Conditions",
    "GeneratedFolder",
    "Guidance",
    "PngStore",
    "Progress",
    "ReducedImages",
    "SampledImages",
    "SampledModel",
    "Sampling",
    "SamplingTask",
    "Store",
    "TensorStore",
    "generate_folder",
    "generate_missing",
    "img2img",
    "invert",
    "read_low_res",
    "resolve_sampler",
    "sample",
    "sample_batches",
    "starting_noise",
    "trajectory_of",
    "write_animation",
    "write_grid",
    "write_npz",
    "write_zip",
]
