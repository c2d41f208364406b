"""Denoisers around a denoiser: guidance, fixed conditions, inpainting, a start without signal."""

from etsdm.denoisers.wrappers.base import Drawable, Wrapper
from etsdm.denoisers.wrappers.conditions import Labelled, SuperResolved
from etsdm.denoisers.wrappers.guidance import Guided
from etsdm.denoisers.wrappers.inpainting import Inpainted
from etsdm.denoisers.wrappers.zero_snr_start import FirstStep

__all__ = ["Drawable", "FirstStep", "Guided", "Inpainted", "Labelled", "SuperResolved", "Wrapper"]
