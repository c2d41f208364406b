"""What every refused container has to show."""

import os
import re

import numpy as np
import pytest
from image_layouts import FILES, FIXED, LAYOUTS

from etsdm.errors import EtsdmError
from etsdm.registry import datasets

ONE = dict(list(FILES.items())[:1])
ARRAYS = {"image_size": 32, "held_out": 0, "classes": "auto"}


def use(part):
    """Everything that a training does with a part."""
    part.check()
    list(part.check_files())
    return part.open("train").load()


def refusal(kind, path, **fields):
    """The message of a container that is refused, whatever is done first; no file has appeared or changed."""
    root = path.parent
    before = {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}
    part = datasets.create(kind, path=str(path), **{**(LAYOUTS["zip"].fields if kind != "cifar10" else FIXED), **fields})
    with pytest.raises(EtsdmError) as error:
        use(part)
    assert {file: file.read_bytes() for file in root.rglob("*") if file.is_file()} == before
    assert str(root) in str(error.value)
    assert re.search(r"; |\nput the images there", str(error.value))  # a mend follows
    return str(error.value)


def cut(path, share=0.6):
    os.truncate(path, int(path.stat().st_size * share))
    return path


def garbage(path):
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))
    return path
