"""Numbers of the original networks: NVlabs/edm (CC BY-NC-SA: figures only), run with torch 2.14.1 on a CPU.

`published` holds the networks of its training presets, `forward` small ones inside its preconditioning with the denoised images,
`options` small ones with rarer options and the network's output. Random frequencies are drawn as
biases are; resampling filters keep their values.
"""

import json
from pathlib import Path

import pytest
import torch
from recorded import assert_recorded, digest, normals, shapes_of, weight

from etsdm.backbones.dhariwal import DhariwalUNet
from etsdm.backbones.edm_network import ORIGINAL_PREFIX
from etsdm.backbones.song import SongUNet
from etsdm.denoisers.denoiser import Denoiser, DenoiserSpec
from etsdm.registry import backbones

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "edm.json").read_text())
PRESETS = {
    "edm-cifar10": "ddpmpp-32",
    "edm-cifar10-cond": "ddpmpp-32-cond",
    "edm-ffhq64": "ddpmpp-64",
    "edm-afhq64": "ddpmpp-64",
    "ncsnpp-cifar10": "ncsnpp-32",
    "ncsnpp-cifar10-cond": "ncsnpp-32-cond",
    "ncsnpp-ffhq64": "ncsnpp-64",
    "ncsnpp-afhq64": "ncsnpp-64",
    "edm-imagenet64": "adm-64-cond",
}


def spec(arguments):
    """The specification with the original's arguments."""
    fields = {"in_channels": 3, "out_channels": 3, **arguments}
    fields.pop("label_dropout", None)  # of training alone
    kind = {"SongUNet": SongUNet, "DhariwalUNet": DhariwalUNet}[fields.pop("model_type")]
    return kind(image_size=fields.pop("img_resolution"), num_classes=fields.pop("label_dim", 0) or None, **fields)


def with_weights(network):
    own = network.state_dict()
    drawn = {key: own[key] if key.endswith("resample_filter") else weight(ORIGINAL_PREFIX + key, own[key].shape) for key in own}
    network.load_state_dict(drawn, strict=True)
    return network.eval()


def edm(network, x, sigma, y):
    """Preconditioning of EDM with the data's standard deviation 0.5 (Karras et al. 2022, table 1)."""
    s = sigma[:, None, None, None]
    out = network(x / (0.25 + s**2).sqrt(), sigma.log() / 4, y)
    return 0.25 / (s**2 + 0.25) * x + s * 0.5 / (s**2 + 0.25).sqrt() * out


def vp(network, x, sigma, y):
    """Preconditioning of VP with beta from 0.1 to 20: sigma^2 + 1 = exp(19.9 t^2 / 2 + 0.1 t), c_noise = 999 t (table 1)."""
    s = sigma[:, None, None, None]
    t = ((0.1**2 + 2 * 19.9 * (1 + sigma**2).log()).sqrt() - 0.1) / 19.9
    return x - s * network(x / (s**2 + 1).sqrt(), 999 * t, y)


def ve(network, x, sigma, y):
    """Preconditioning of VE (table 1)."""
    return x + sigma[:, None, None, None] * network(x, (sigma / 2).log(), y)


PRECONDITIONING = {"EDMPrecond": edm, "VPPrecond": vp, "VEPrecond": ve}


@pytest.mark.parametrize("name", REFERENCE["published"])
def test_published_networks_have_the_original_keys_and_shapes(name):
    case = REFERENCE["published"][name]
    with torch.device("meta"):
        network = spec(case["arguments"]).build()
    shapes = shapes_of(network, ORIGINAL_PREFIX)
    assert sum(parameter.numel() for parameter in network.parameters()) == case["parameters"]
    assert len(shapes) == case["keys"]
    assert digest(shapes) == case["digest"]


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_the_published_networks(preset):
    part = backbones.create(preset)
    # Rates of dropout by the README of the original: they are set for the data, not for the architecture.
    rates = {"cifar10": 0.13, "ffhq64": 0.05, "afhq64": 0.25, "imagenet64": 0.1}
    assert part.dropout == rates[preset.split("-")[1]]
    assert part == spec({**REFERENCE["published"][PRESETS[preset]]["arguments"], "dropout": part.dropout})


@pytest.mark.parametrize("name", REFERENCE["forward"])
def test_small_networks_have_the_original_keys(name):
    case = REFERENCE["forward"][name]
    assert shapes_of(spec(case["arguments"]).build(), ORIGINAL_PREFIX) == case["state"]


@pytest.mark.parametrize("name", REFERENCE["forward"])
def test_denoised_images_are_the_original_ones(name):
    case = REFERENCE["forward"][name]
    network = with_weights(spec(case["arguments"]).build())
    sigma = torch.tensor(case["sigma"])
    x = normals(0, 2, 3, 16, 16) * (1 + sigma)[:, None, None, None]
    y = None if case["label"] is None else torch.tensor([1, 3])
    with torch.no_grad():
        denoised = PRECONDITIONING[name.rpartition("-")[2]](network, x, sigma, y)
    assert_recorded(denoised, case["denoised"])


@pytest.mark.parametrize("name", REFERENCE["options"])
@pytest.mark.filterwarnings("ignore:attn_resolutions")
def test_networks_with_rarer_options_give_the_original_output(name):
    case = REFERENCE["options"][name]
    part = spec(case["arguments"])
    network = with_weights(part.build())
    shapes = shapes_of(network, ORIGINAL_PREFIX)
    assert (len(shapes), digest(shapes)) == (case["keys"], case["digest"])

    x = normals(0, 2, part.in_channels, 16, 16)
    y = None if case["y"] is None else torch.tensor(case["y"])
    augment = None if case["augment"] is None else normals(1, 2, part.augment_dim)
    with torch.no_grad():
        out = network(x, torch.tensor(case["time"]), y, augment)
    assert_recorded(out, case["output"])


# The same from the parts of a denoiser. The time of `edm` is sigma; that of `vp-edm` follows from it.
PARTS = {
    "EDMPrecond": {"schedule": "edm", "target": "edm", "time_input": "log-sigma"},
    "VPPrecond": {
        "schedule": "vp-edm",
        "target": {"type": "eps", "scale_input": True},
        "time_input": {"type": "scaled", "factor": 999},
    },
    "VEPrecond": {
        "schedule": "edm",
        "target": {"type": "score", "scaled": True},
        "time_input": {"type": "log-sigma", "factor": 1, "unit": 2},
    },
}


@pytest.mark.parametrize("name", REFERENCE["forward"])
def test_schedule_target_and_time_input_are_the_preconditioning(name):
    case = REFERENCE["forward"][name]
    part = spec(case["arguments"])
    denoiser = Denoiser(DenoiserSpec(backbone=part, **PARTS[name.rpartition("-")[2]]), with_weights(part.build()))
    sigma = torch.tensor(case["sigma"])
    x = normals(0, 2, 3, 16, 16) * (1 + sigma)[:, None, None, None]
    y = {} if case["label"] is None else {"y": torch.tensor([1, 3])}
    with torch.no_grad():
        denoised = denoiser.predict(x, denoiser.schedule.t_of_log_snr(-2 * sigma.double().log()), **y).x0
    assert_recorded(denoised, case["denoised"])
