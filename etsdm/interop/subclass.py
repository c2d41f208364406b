"""Subclasses that an object gets in place of its class, under the name of that class."""

from __future__ import annotations

import copyreg
import functools
from collections.abc import Callable
from typing import Any

__all__ = ["BASE", "in_place_subclass"]

BASE = "_etsdm_base"  # in a subclass: the class of the object before


def in_place_subclass(body: Callable[[Any], dict[str, Any]]) -> Callable[[Any], Any]:
    """Decorator of a function from a class to the attributes of its subclass; makes it a function to the subclass itself.

    The subclass has the name and module of its base, which diffusers writes into configs and pipelines. It cannot be imported by
    these, so its objects are copied and pickled by the base.
    """

    @functools.cache
    def subclass(base: Any) -> Any:
        def reduce(self: Any, protocol: Any) -> Any:
            reduced: tuple[Any, ...] = base.__reduce_ex__(self, max(protocol, 2))
            make, (_, *args), *state = reduced
            return (_new, (subclass, base, *args), *state) if make is copyreg.__newobj__ else reduced  # type: ignore[attr-defined]

        names = {name: getattr(base, name) for name in ("__module__", "__qualname__", "__doc__")}
        return type(base)(base.__name__, (base,), {**names, "__reduce_ex__": reduce, BASE: base, **body(base)})

    functools.update_wrapper(subclass, body)
    return subclass


def _new(subclass: Callable[[Any], Any], base: Any, *args: Any) -> Any:
    """An empty object of the subclass of a base, for pickle and copy."""
    found = subclass(base)
    return found.__new__(found, *args)
