"""How the networks of the originals were recorded: weights and inputs by rule, keys by digest, outputs at a few places.

A weight is drawn from a generator seeded by the CRC of its key: standard normal over the square root of the fan-in; 1 + 0.1 z for
the weights of norms; 0.1 z for biases. The key digest is the CRC of the JSON of the sorted pairs (key, shape). Of each image the
output's mean, root mean square and values at seven flat indices are known; the originals ran in float32.
"""

import json
import zlib

import numpy as np
import pytest
import torch


def normals(seed, *shape):
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))


def weight(key, shape):
    z = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
    if len(shape) >= 2:
        z /= np.sqrt(np.prod(shape[1:]))
    else:
        z = 1 + 0.1 * z if key.endswith(".weight") else 0.1 * z
    return torch.from_numpy(z.astype(np.float32))


def shapes_of(network, prefix=""):
    return {prefix + key: list(value.shape) for key, value in network.state_dict().items()}


def digest(shapes):
    return zlib.crc32(json.dumps(sorted(shapes.items())).encode())


def assert_recorded(out, expected):
    """Within a few parts in 1e5 of the root mean square."""
    assert list(out.shape) == expected["shape"]
    for image, mean, rms, values in zip(out.double().flatten(1), expected["mean"], expected["rms"], expected["values"], strict=True):
        tolerance = 3e-5 * rms
        assert image.mean().item() == pytest.approx(mean, abs=tolerance)
        assert image.square().mean().sqrt().item() == pytest.approx(rms, abs=tolerance)
        picked = [image[i * len(image) // 7].item() for i in range(7)]
        assert picked == pytest.approx(values, abs=tolerance)
