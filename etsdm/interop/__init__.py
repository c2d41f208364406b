"""Bridges to other libraries: their networks, pipelines and files as denoisers."""

from etsdm.interop.open_model import open_model
from etsdm.interop.wrap import wrap

__all__ = ["open_model", "wrap"]
