"""Image data sets, their splits, and the order of training images."""

from etsdm.data import presets as presets  # registers the published sets
from etsdm.data import sources as sources  # registers every module in that folder
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
