"""Image data sets, their splits, and the order of training images."""

from etsdm.data.dataset import Dataset, Files, Images, LoadedImages
from etsdm.data.encoded import EncodedDataset, EncodedImages
from etsdm.data.order import SampleOrder
from etsdm.data.sources.digits import Digits
from etsdm.data.sources.folder import ImageFolder
from etsdm.data.split import Split

__all__ = [
    "Dataset",
    "Digits",
    "EncodedDataset",
    "EncodedImages",
    "Files",
    "ImageFolder",
    "Images",
    "LoadedImages",
    "SampleOrder",
    "Split",
]
