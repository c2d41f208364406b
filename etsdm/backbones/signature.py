"""`Signature`: how an external network takes its time, its class labels and other conditions.

plain               network(x, time, y=y, **cond)
diffusers           network(x, timestep=time, class_labels=y, encoder_hidden_states=..., added_cond_kwargs={...})
EDM                 network(x, time, class_labels=one_hot(y))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from etsdm.errors import PartError
from etsdm.registry import Frozen
from etsdm.registry.counts import Classes

__all__ = ["Signature"]


class Signature(Frozen):
    """Names and types of the arguments of an external network beside x.

    Attributes:
        time_argument: name of the time; None for the second positional argument.
        time_dtype: dtype of the time; "int64" rounds it to the nearest timestep, for networks that look it up in a table.
        one_time: whether it takes one time, (), for all images of a batch; it is called once for each time of a batch then.
        one_hot: length of the one-hot vectors that stand for class labels, and zeros for a label from that number on, the null class;
            None for the labels themselves.
        groups: pairs of a condition and the mapping argument that it belongs to, such as ("text_embeds", "added_cond_kwargs").
        requires: names of conditions that the network cannot do without.
    """

    time_argument: str | None = None
    time_dtype: Literal["float32", "int64"] = "float32"
    one_time: bool = False
    one_hot: Classes | None = None
    groups: tuple[tuple[str, str], ...] = ()
    requires: tuple[str, ...] = ()

    def time(self, time: Tensor) -> Tensor:
        """The time in the network's dtype. Args: time: (B,), float32. Returns: (B,)."""
        return time if self.time_dtype == "float32" else time.round().to(torch.int64)

    def labels(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        """Class labels as the network takes them.

        Args:
            y: int64, (B,).
            dtype: of one-hot vectors.

        Returns:
            y itself, or one-hot vectors, (B, one_hot).
        """
        if self.one_hot is None:
            return y
        return (y[:, None] == torch.arange(self.one_hot, device=y.device)).to(dtype)

    def arguments(self, cond: Mapping[str, Any]) -> dict[str, Any]:
        """Keyword arguments from conditions by name.

        Raises:
            PartError: one is missing that the network requires.
        """
        for name in self.requires:
            if name not in cond:
                raise PartError(name, f"is missing, and the network requires it; give {name}= to the call, or fix it in conditions=")
        groups = dict(self.groups)
        found: dict[str, Any] = {}
        for name, value in cond.items():
            if name in groups:
                found.setdefault(groups[name], {})[name] = value
            else:
                found[name] = value
        return found
