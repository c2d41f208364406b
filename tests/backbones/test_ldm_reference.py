"""Numbers of the original network: CompVis/latent-diffusion (MIT), run with torch 2.14.1 on a CPU.

`published` holds the UNets of its model zoo, `forward` small ones with their output. The rules of weights and digests
are in `recorded.py`; the context is standard normal from seed 1.
"""

import json
from pathlib import Path

import pytest
import torch
from recorded import assert_recorded, digest, normals, shapes_of, weight

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
    x = normals(0, 2, spec.in_channels, spec.image_size, spec.image_size)
    context = normals(1, 2, 5, spec.context_dim) if spec.use_spatial_transformer else None
    with torch.no_grad():
        out = network(x, torch.tensor(case["t"]), context=context)
    assert_recorded(out, case["output"])
