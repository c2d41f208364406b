"""Preparation of image sets: one crop and resize of all images, written once as a folder or zip archive that recipes read."""

from etsdm.data.preparation.prepared import PreparedSet, manifest_of, record_of
from etsdm.data.preparation.preparing import prepare_images
from etsdm.data.preparation.release import release_dataset

__all__ = ["PreparedSet", "manifest_of", "prepare_images", "record_of", "release_dataset"]
