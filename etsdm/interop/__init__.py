"""Bridges to other libraries: converters of their checkpoints, and exports for their loaders."""

from etsdm.interop.convert import ConversionReport, Options, convert
from etsdm.interop.export.formats import export_denoiser

__all__ = ["ConversionReport", "Options", "convert", "export_denoiser"]
