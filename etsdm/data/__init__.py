"""Image data sets, their splits, and the order of training images."""

from etsdm.data.augmentation import Augmentation, Draws
from etsdm.data.dataset import Dataset, Files
from etsdm.data.encoded import EncodedDataset
from etsdm.data.encoded_images import EncodedImages
from etsdm.data.images import Images, LoadedImages, to_signal
from etsdm.data.loader import TrainingLoader
from etsdm.data.order import SampleOrder
from etsdm.data.sources.cifar10 import CIFAR10
from etsdm.data.sources.digits import Digits
from etsdm.data.sources.emoji import Emoji
from etsdm.data.sources.folder import ImageFolder
from etsdm.data.sources.huggingface import HuggingFace
from etsdm.data.sources.join import Join
from etsdm.data.sources.lmdb import ImageLmdb
from etsdm.data.sources.mixture import Mixture
from etsdm.data.sources.npz import ImageArrays
from etsdm.data.sources.photos import Photos
from etsdm.data.sources.webdataset import WebDataset
from etsdm.data.sources.zip import ImageZip
from etsdm.data.split import Split

__all__ = [
    "CIFAR10",
    "Augmentation",
    "Dataset",
    "Digits",
    "Draws",
    "Emoji",
    "EncodedDataset",
    "EncodedImages",
    "Files",
    "HuggingFace",
    "ImageArrays",
    "ImageFolder",
    "ImageLmdb",
    "ImageZip",
    "Images",
    "Join",
    "LoadedImages",
    "Mixture",
    "Photos",
    "SampleOrder",
    "Split",
    "TrainingLoader",
    "WebDataset",
    "to_signal",
]
