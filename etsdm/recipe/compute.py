"""`Compute`: where and how a recipe runs."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt

from etsdm.backbones import Execution

__all__ = ["Compute"]


class Compute(Execution):
    """Where and how it runs; changes no result beyond rounding and counts in no digest.

    Fields: those of `Execution`, for the networks; device; threads of one arm's process, None to share the cores among the arms
    that run side by side; jobs, how many runs go side by side, None for as many as the cores and threads allow (one on a GPU).
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: PositiveInt | None = None
    jobs: PositiveInt | None = None
