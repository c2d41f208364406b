"""The HTML report."""

from etsdm.report.page import write_report

__all__ = ["write_report"]
