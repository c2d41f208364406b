from importlib import import_module
from pkgutil import iter_modules

from etsdm.data import sources
from etsdm.registry import datasets


def test_every_module_of_sources_registers_a_data_set():
    modules = {f"etsdm.data.sources.{module.name}" for module in iter_modules(sources.__path__)}
    assert {datasets[name].__module__ for name in datasets} == modules
    assert all(import_module(module).__doc__ for module in modules)
