"""Runs: a recipe carried out, stage by stage, in a folder."""

from etsdm.runs.run import Run
from etsdm.runs.stages import STAGES, Evaluate, Progress, Sample, Stage, Train

__all__ = ["STAGES", "Evaluate", "Progress", "Run", "Sample", "Stage", "Train"]
