"""Numbers of the original network: openai/guided-diffusion (MIT), run with torch 2.14.1 on a CPU.

`published` holds the networks of its README, `forward` and `options` small ones with their output.
"""

import json
from pathlib import Path

import pytest
import torch
from recorded import assert_recorded, digest, normals, shapes_of, weight

from etsdm.backbones import ADMUNet

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "guided_diffusion.json").read_text())
SMALL = {**REFERENCE["forward"], **REFERENCE["options"]}


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
    x = normals(0, 2, spec.in_channels, spec.image_size, spec.image_size)
    y = None if case["y"] is None else torch.tensor(case["y"])
    with torch.no_grad():
        out = network(x, torch.tensor(case["t"]), y)
    assert_recorded(out, case["output"])
