from pkgutil import iter_modules

from etsdm.data import sources
from etsdm.registry import datasets


def test_every_source_is_one_registered_class_in_one_module():
    modules = [f"etsdm.data.sources.{module.name}" for module in iter_modules(sources.__path__)]
    assert {"etsdm.data.sources.digits", "etsdm.data.sources.folder"} <= set(modules)
    classes = [part for part in datasets.classes().values() if part.__module__.startswith("etsdm.")]
    assert sorted(part.__module__ for part in classes) == sorted(modules)
