"""Backbones: networks F = network(x, time), each a frozen specification that builds its module."""

from etsdm.backbones.adm import ADMUNet, ADMUNetwork
from etsdm.backbones.base import Backbone
from etsdm.backbones.dhariwal import DhariwalUNet, DhariwalUNetwork
from etsdm.backbones.dit import DiT
from etsdm.backbones.execution import Execution
from etsdm.backbones.external import External
from etsdm.backbones.ldm import LDMUNet, LDMUNetwork
from etsdm.backbones.mlp import MLP
from etsdm.backbones.network import Network
from etsdm.backbones.song import SongUNet, SongUNetwork

__all__ = [
    "MLP",
    "ADMUNet",
    "ADMUNetwork",
    "Backbone",
    "DhariwalUNet",
    "DhariwalUNetwork",
    "DiT",
    "Execution",
    "External",
    "LDMUNet",
    "LDMUNetwork",
    "Network",
    "SongUNet",
    "SongUNetwork",
]
