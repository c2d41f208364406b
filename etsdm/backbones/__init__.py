"""Backbones: networks that map (x, time input) to F, each a frozen specification that builds its module."""

from etsdm.backbones.adm import ADMUNet, ADMUNetwork
from etsdm.backbones.base import Backbone

__all__ = ["ADMUNet", "ADMUNetwork", "Backbone"]
