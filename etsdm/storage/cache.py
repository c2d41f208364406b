"""The user's cache folder."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """Folder for what can be made again: $ETSDM_CACHE, else etsdm below $XDG_CACHE_HOME, else ~/.cache/etsdm."""
    if own := os.environ.get("ETSDM_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "etsdm"
