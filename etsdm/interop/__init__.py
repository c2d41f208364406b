"""Bridges to other libraries: their networks and pipelines as denoisers."""

from etsdm.interop.wrap import wrap

__all__ = ["wrap"]
