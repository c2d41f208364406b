"""Numbers of the original network: openai/guided-diffusion (MIT), run with torch 2.14.1 on a CPU.

`published` holds the networks of its README, `forward` and `options` small ones with their output. A weight is drawn from a
generator seeded by the CRC of its key: standard normal over the square root of the fan-in; 1 + 0.1 z for the weights of norms;
0.1 z for biases. The key digest is the CRC of the JSON of the sorted pairs (key, shape).
"""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from etsdm.backbones import ADMUNet

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "guided_diffusion.json").read_text())
SMALL = {**REFERENCE["forward"], **REFERENCE["options"]}


def digest(shapes):
    return zlib.crc32(json.dumps(sorted(shapes.items())).encode())


def shapes_of(network):
    return {key: list(value.shape) for key, value in network.state_dict().items()}


def weight(key, shape):
    z = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
    if len(shape) >= 2:
        z /= np.sqrt(np.prod(shape[1:]))
    else:
        z = 1 + 0.1 * z if key.endswith(".weight") else 0.1 * z
    return torch.from_numpy(z.astype(np.float32))


@pytest.mark.parametrize("name", REFERENCE["published"])
def test_published_networks_have_the_original_keys_and_shapes(name):
    case = REFERENCE["published"][name]
    with torch.device("meta"):
        network = ADMUNet(**case["arguments"]).build()
    shapes = shapes_of(network)
    assert sum(parameter.numel() for parameter in network.parameters()) == case["parameters"]
    assert len(shapes) == case["keys"]
    assert digest(shapes) == case["digest"]


@pytest.mark.parametrize("name", REFERENCE["forward"])
def test_small_networks_have_the_original_keys_in_order(name):
    case = REFERENCE["forward"][name]
    with torch.device("meta"):
        shapes = shapes_of(ADMUNet(**case["arguments"]).build())
    assert list(shapes.items()) == list(case["state"].items())


@pytest.mark.parametrize("name", REFERENCE["options"])
def test_networks_with_rarer_options_have_the_original_keys(name):
    case = REFERENCE["options"][name]
    with torch.device("meta"):
        shapes = shapes_of(ADMUNet(**case["arguments"]).build())
    assert (len(shapes), digest(shapes)) == (case["keys"], case["digest"])


@pytest.mark.parametrize("name", SMALL)
def test_outputs_are_the_original_ones(name):
    case = SMALL[name]
    spec = ADMUNet(**case["arguments"])
    network = spec.build().eval()
    shapes = case.get("state") or shapes_of(network)
    network.load_state_dict({key: weight(key, shape) for key, shape in shapes.items()}, strict=True)
    x = np.random.RandomState(0).standard_normal((2, spec.in_channels, spec.image_size, spec.image_size))
    y = None if case["y"] is None else torch.tensor(case["y"])
    with torch.no_grad():
        out = network(torch.from_numpy(x.astype(np.float32)), torch.tensor(case["t"]), y).double()

    expected = case["output"]
    assert list(out.shape) == expected["shape"]
    for image, mean, rms, values in zip(out.flatten(1), expected["mean"], expected["rms"], expected["values"], strict=True):
        tolerance = 3e-5 * rms
        assert image.mean().item() == pytest.approx(mean, abs=tolerance)
        assert image.square().mean().sqrt().item() == pytest.approx(rms, abs=tolerance)
        picked = [image[i * len(image) // 7].item() for i in range(7)]
        assert picked == pytest.approx(values, abs=tolerance)
