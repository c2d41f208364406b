"""The zoo: trained denoisers, loaded and verified."""

from etsdm.zoo.load import load

__all__ = ["load"]
