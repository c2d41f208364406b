"""Versions of the packages that results depend on, and the machine."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import version

__all__ = ["environment"]

PACKAGES = ("etsdm", "torch", "numpy", "scikit-learn")


def environment() -> dict[str, str]:
    """Versions of Python and of packages, and the platform, by name."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "platform": f"{sys.platform} {platform.machine()}",
    }
