"""`Compute`: the compute section of a recipe."""

from __future__ import annotations

from typing import Literal

from etsdm.backbones import Execution
from etsdm.registry.counts import Processes, Workers

__all__ = ["Compute"]


class Compute(Execution):
    """Device, threads and parallel runs; results depend on it by rounding errors alone, and digests leave it out.

    Attributes:
        device: device of every run.
        threads: CPU threads of a run's process, None to divide the cores among parallel runs.
        jobs: number of parallel runs, None for as many as cores and threads allow (one on a GPU).
        workers: threads that read and decode training images ahead of the training, None for as many as it has CPU threads, and at most 8;
            0 to read a batch when it is needed.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Processes | None = None
    jobs: Processes | None = None
    workers: Workers | None = None
