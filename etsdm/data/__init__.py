"""Image data sets, and the order in which training sees them."""

from etsdm.data.base import Dataset, Images, Split
from etsdm.data.digits import Digits
from etsdm.data.order import SampleOrder

__all__ = ["Dataset", "Digits", "Images", "SampleOrder", "Split"]
