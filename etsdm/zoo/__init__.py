"""The zoo: trained denoisers, saved, loaded and verified."""

from etsdm.zoo.load import load
from etsdm.zoo.save import save

__all__ = ["load", "save"]
