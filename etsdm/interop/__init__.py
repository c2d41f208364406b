"""Bridges to other libraries: converters of their checkpoints, and exports for their loaders."""

from etsdm.interop.convert import ConversionReport, Options, convert

__all__ = ["ConversionReport", "Options", "convert"]
