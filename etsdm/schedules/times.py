"""Times as tensors."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from etsdm.errors import PartError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["as_times"]


def as_times(t: Tensor | ArrayLike) -> Tensor:
    """Times as a tensor: a tensor as it is, an array in its dtype, a number or a list of numbers in float64.

    Raises:
        PartError: t holds something else.
    """
    if isinstance(t, Tensor):
        if t.is_complex():
            raise PartError("t", f"found a tensor of {t.dtype}; give real times")
        return t
    if isinstance(t, Real):
        return torch.tensor(float(t), dtype=torch.float64)
    array = np.asarray(t) if isinstance(t, (np.ndarray, np.generic, list, tuple)) else np.asarray(None)
    if array.dtype.kind not in "iuf":
        raise PartError("t", f"found {str(t)[:40]!r}; give a number, an array or a tensor of times")
    return torch.from_numpy(array.astype(np.float64) if isinstance(t, (list, tuple)) else np.array(array))
