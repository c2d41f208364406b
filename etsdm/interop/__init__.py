"""Models of other libraries: opened, measured and changed as etsdm's own."""

from etsdm.interop.open_model import open_model

__all__ = ["open_model"]
