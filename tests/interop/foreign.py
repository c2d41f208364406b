"""Files of other programs, with what a hostile one puts into them, and small networks to convert."""

import io
import os
import pickle
import zipfile

import torch
from torch import nn

from etsdm.randomness import seeded_global_rng


class Payload:
    """An object whose unpickling makes a file; tests check that it never does."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def filled(network, seed=0):
    """The network with noise in every weight, as a trained one, in evaluation mode."""
    with seeded_global_rng(seed, "test/weights"), torch.no_grad():
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.1)
    return network.eval()


def rezipped(path, out, change):
    """Copies a torch file with some entries changed: `change(name, content)` gives the new content, None to leave one out."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as target:
        for entry in source.infolist():
            content = change(entry.filename, source.read(entry))
            if content is not None:
                target.writestr(entry.filename, content)
    return out


def legacy_bytes(value):
    """The bytes of a torch file of before 1.6."""
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def payload_pickle(marker):
    return pickle.dumps({"weight": Payload(marker)})
