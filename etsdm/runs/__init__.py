"""Runs: a recipe carried out, stage by stage, in a folder."""

from etsdm.runs.evaluate import Evaluate
from etsdm.runs.run import Run
from etsdm.runs.sample import Sample
from etsdm.runs.stages import STAGES, Progress, Stage, StagePlan
from etsdm.runs.train import Train

__all__ = ["STAGES", "Evaluate", "Progress", "Run", "Sample", "Stage", "StagePlan", "Train"]
