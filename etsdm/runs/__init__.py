"""Runs: a recipe carried out, stage by stage, into a folder."""

from etsdm.runs.run import STAGES, Run, StageProgress

__all__ = ["STAGES", "Run", "StageProgress"]
