"""Numbers of the original network: CompVis/latent-diffusion (MIT), run with torch 2.14.1 on a CPU.

`published` holds the UNets of its model zoo, `forward` small ones with their output. Weights and digests follow the rules of
`test_adm_reference.py`; the context is standard normal from seed 1.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from etsdm.backbones import LDMUNet
from etsdm.registry import backbones

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "latent_diffusion.json").read_text())
PRESETS = {
    "ffhq": "ldm-ffhq",
    "celebahq": "ldm-celebahq",
    "lsun-churches": "ldm-lsun-churches",
    "lsun-bedrooms": "ldm-lsun-beds",
    "cin256": "ldm-cin256",
}


def digest(shapes):
    return zlib.crc32(json.dumps(sorted(shapes.items())).encode())


def shapes_of(network):
    return {key: list(value.shape) for key, value in network.state_dict().items()}


def normal(seed, shape):
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))


def weight(key, shape):
    z = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
    if len(shape) >= 2:
        z /= np.sqrt(np.prod(shape[1:]))
    else:
        z = 1 + 0.1 * z if key.endswith(".weight") else 0.1 * z
    return torch.from_numpy(z.astype(np.float32))


@pytest.mark.parametrize("name", REFERENCE["published"])
def test_the_presets_are_the_published_networks(name):
    case = REFERENCE["published"][name]
    spec = backbones.create(PRESETS[name])
    assert spec == LDMUNet(**case["unet"])
    with torch.device("meta"):
        network = spec.build()
    shapes = shapes_of(network)
    assert sum(parameter.numel() for parameter in network.parameters()) == case["parameters"]
    assert (len(shapes), digest(shapes)) == (case["keys"], case["digest"])


@pytest.mark.parametrize("name", REFERENCE["forward"])
def test_keys_and_outputs_are_the_original_ones(name):
    case = REFERENCE["forward"][name]
    spec = LDMUNet(**case["arguments"])
    network = spec.build().eval()
    assert list(shapes_of(network).items()) == list(case["state"].items())
    network.load_state_dict({key: weight(key, shape) for key, shape in case["state"].items()}, strict=True)
    x = normal(0, (2, spec.in_channels, spec.image_size, spec.image_size))
    context = normal(1, (2, 5, spec.context_dim)) if spec.use_spatial_transformer else None
    with torch.no_grad():
        out = network(x, torch.tensor(case["t"]), context=context).double()

    expected = case["output"]
    assert list(out.shape) == expected["shape"]
    for image, mean, rms, values in zip(out.flatten(1), expected["mean"], expected["rms"], expected["values"], strict=True):
        tolerance = 3e-5 * rms
        assert image.mean().item() == pytest.approx(mean, abs=tolerance)
        assert image.square().mean().sqrt().item() == pytest.approx(rms, abs=tolerance)
        picked = [image[i * len(image) // 7].item() for i in range(7)]
        assert picked == pytest.approx(values, abs=tolerance)
