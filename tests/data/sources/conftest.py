"""The pictures of `layouts.py` on disk, written once."""

import pytest
from image_layouts import LAYOUTS


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """The library `datasets` keeps its copies here."""
    import datasets as library

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The pictures in a layout, written once."""
    known = {}

    def path_of(layout):
        name = next(name for name, one in LAYOUTS.items() if one is layout)
        if name not in known:
            known[name] = layout.write(tmp_path_factory.mktemp("layout"))
        return known[name]

    return path_of
