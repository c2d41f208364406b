"""Pickles in the layout of NVlabs/edm: persistent classes of the same names, with source code that must not run."""

import pickle
import sys
from types import ModuleType

import numpy as np
import torch
from torch import nn


def _reconstruct_persistent_obj(meta):
    raise AssertionError("the reader ran a function of the pickle's modules")


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


class EasyDict(dict):
    pass


EasyDict.__module__, EasyDict.__qualname__ = "dnnlib.util", "EasyDict"


class Persistent(nn.Module):
    """A module whose pickle is that of a persistent class.

    Args:
        name: of the class.
        source: the code in the pickle.
        arguments: with which the original was made.
        **attributes: plain values beside them.
    """

    def __init__(self, name, source="raise SystemExit", arguments=None, **attributes):
        super().__init__()
        self.__dict__ |= attributes
        self._init_args, self._init_kwargs = (), arguments or {}
        self.__dict__["meta"] = {"type": "class", "version": 6, "module_src": source, "class_name": name}

    def __reduce__(self):
        state = {key: value for key, value in self.__dict__.items() if key != "meta"}
        return _reconstruct_persistent_obj, ({**self.meta, "state": state},), None


def tree(state, source):
    """Nested persistent modules with the tensors of a state dict; `enc` and `dec` are torch's own containers, as in EDM."""

    def build(name, items):
        module = nn.ModuleDict() if name in ("enc", "dec") else Persistent("Layer", source)
        inner = {}
        for key, value in items.items():
            first, _, rest = key.partition(".")
            if rest:
                inner.setdefault(first, {})[rest] = value
            elif first in ("resample_filter", "freqs"):
                module.register_buffer(first, value)
            else:
                module.register_parameter(first, nn.Parameter(value))
        for first, entries in inner.items():
            module.add_module(first, build(first, entries))
        return module

    return build("", state)


def snapshot(network, kind, arguments, precond="EDMPrecond", source="raise SystemExit", buffers=None, **attributes):
    """The objects of a snapshot. Args: network: its state dict. kind, arguments: of the original's network."""
    model = tree(network, source)
    model.meta["class_name"], model._init_kwargs = kind, {**arguments, "label_dropout": 0}
    model.skip_scale = np.sqrt(0.5)
    outer = Persistent(precond, source, EasyDict(model_type=kind, gain=np.float32(0.2)), **attributes)
    for name, value in (buffers or {}).items():
        outer.register_buffer(name, value)
    outer.model = model
    return {"ema": outer, "loss_fn": Persistent("EDMLoss", source, P_mean=-1.2), "augment_pipe": None, "dataset_kwargs": EasyDict(path="x")}


def dumped(value, protocol=4):
    """The pickle of a value, with modules of EDM's names in place of EDM."""
    names = {"torch_utils.persistence": _reconstruct_persistent_obj, "dnnlib.util": EasyDict}
    modules = {}
    for name, member in names.items():
        package = name.split(".")[0]
        modules[package], modules[name] = ModuleType(package), ModuleType(name)
        setattr(modules[name], member.__name__, member)
    before = dict(sys.modules)
    sys.modules.update(modules)
    try:
        return pickle.dumps(value, protocol)
    finally:
        for name in modules:
            del sys.modules[name]
        sys.modules.update({name: before[name] for name in modules if name in before})


def ddpm_levels(m=100, c=0.008):
    """The buffer u of iDDPMPrecond, sigma/alpha from the largest to 0."""
    j = torch.arange(m + 1, dtype=torch.float64)
    bar = (torch.pi / 2 * j / m / (c + 1)).sin() ** 2
    u = torch.zeros(m + 1, dtype=torch.float64)
    for i in range(m, 0, -1):
        u[i - 1] = ((u[i] ** 2 + 1) / (bar[i - 1] / bar[i]).clip(min=0.001) - 1).sqrt()
    return u.float()
