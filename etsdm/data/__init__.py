"""Image data sets, and the order in which training sees them."""

from etsdm.data.base import Dataset, Files, Images, LoadedImages, Split
from etsdm.data.digits import Digits
from etsdm.data.folder import FolderImages, ImageFolder
from etsdm.data.order import SampleOrder

__all__ = ["Dataset", "Digits", "Files", "FolderImages", "ImageFolder", "Images", "LoadedImages", "SampleOrder", "Split"]
