"""Diagnosis of a model: `etsdm.diagnose`, its record, and its page of advice."""

from etsdm.report.diagnosis.diagnosing import Diagnosis, diagnose

__all__ = ["Diagnosis", "diagnose"]
