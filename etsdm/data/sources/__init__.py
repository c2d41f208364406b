"""Sources of images: one data set class a module. Every module in this folder is imported, so that its class is registered."""

from importlib import import_module
from pkgutil import iter_modules

for module in iter_modules(__path__):
    import_module(f"{__name__}.{module.name}")
