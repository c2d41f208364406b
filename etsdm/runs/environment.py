"""Versions of what the numbers depend on, and the machine."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import version

__all__ = ["environment"]


def environment() -> dict[str, str]:
    """Versions of what the numbers depend on, and the machine."""
    packages = ("etsdm", "torch", "numpy", "scikit-learn")
    found = {name: version(name) for name in packages}
    return {"python": platform.python_version(), **found, "platform": f"{sys.platform} {platform.machine()}"}
