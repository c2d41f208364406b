"""Image data sets, their splits, and the order of training images."""

from etsdm.data.augmentation import Augmentation, Draws
from etsdm.data.dataset import Dataset, Files
from etsdm.data.encoded import EncodedDataset
from etsdm.data.encoded_images import EncodedImages
from etsdm.data.images import Images, LoadedImages, to_signal
from etsdm.data.loader import TrainingLoader
from etsdm.data.order import SampleOrder
from etsdm.data.sources.digits import Digits
from etsdm.data.sources.emoji import Emoji
from etsdm.data.sources.folder import ImageFolder
from etsdm.data.sources.photos import Photos
from etsdm.data.split import Split

__all__ = [
    "Augmentation",
    "Dataset",
    "Digits",
    "Draws",
    "Emoji",
    "EncodedDataset",
    "EncodedImages",
    "Files",
    "ImageFolder",
    "Images",
    "LoadedImages",
    "Photos",
    "SampleOrder",
    "Split",
    "TrainingLoader",
    "to_signal",
]
