"""The published networks, on the meta device, where a weight is a shape."""

import json
import zlib
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DModel

from etsdm.backbones.adm import ADMUNet
from etsdm.backbones.adm_presets import ADM_PRESETS
from etsdm.registry import backbones

# openai/guided-diffusion (MIT), run with torch 2.14.1.
PUBLISHED = json.loads((Path(__file__).parents[1] / "reference" / "guided_diffusion.json").read_text())["published"]


def shapes(part):
    with torch.device("meta"):
        return {key: list(value.shape) for key, value in part.build().state_dict().items()}


def parameters(part):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in part.build().parameters())


def facts(name):
    """Parameters, number of keys, and the CRC of the sorted keys and shapes."""
    part = backbones.create(name)
    found = shapes(part)
    return parameters(part), len(found), zlib.crc32(json.dumps(sorted(found.items())).encode())


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_are_the_published_networks(name):
    case = PUBLISHED[name]
    assert backbones.create(f"adm-{name}") == ADMUNet(**case["arguments"])
    assert facts(f"adm-{name}") == (case["parameters"], case["keys"], case["digest"])


# Made by the original programs at the flags of their READMEs, with torch 2.14.1.
@pytest.mark.parametrize(
    ("name", "expected"),
    [("adm-upsampler-128-512", (308835270, 537, 856697014)), ("improved-cifar10", (52546438, 446, 2181895441))],
)
def test_presets_have_the_keys_of_the_original_programs(name, expected):
    assert facts(name) == expected


# Table A1 gives 131M and 692M, in units of 2^20, the first rounded down.
@pytest.mark.parametrize(
    ("name", "exact", "millions", "printed"), [("adm-normal", 138286467, 138.29, 131.9), ("adm-large", 725956227, 725.96, 692.3)]
)
def test_the_networks_of_table_a1_have_its_sizes(name, exact, millions, printed):
    count = parameters(backbones.create(name))
    assert count == exact
    assert round(count / 1e6, 2) == millions
    assert round(count / 2**20, 1) == printed


def test_attention_as_printed_for_the_large_network_has_another_size():
    # At 32, 64 and 8 pixels of 256: factors 8, 4 and 32.
    count = parameters(backbones.create("adm-large", attention_resolutions=(4, 8, 32)))
    assert count == 707054211
    assert round(count / 2**20, 1) == 674.3  # and not 692


def test_the_cifar10_network_of_ddpm_has_its_size():
    # Ho et al. 2020, appendix B: 35.7 million parameters. diffusers' network has the layout of google/ddpm-cifar10-32.
    with torch.device("meta"):
        peer = UNet2DModel(
            sample_size=32,
            block_out_channels=(128, 256, 256, 256),
            layers_per_block=2,
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=None,
        )
    count = parameters(backbones.create("ddpm-cifar10"))
    assert count == sum(parameter.numel() for parameter in peer.parameters())
    assert round(count / 1e6, 1) == 35.7


def test_a_preset_is_a_start_whose_fields_can_be_changed():
    part = backbones.create("adm-normal", image_size=64, num_classes=10)
    assert (part.image_size, part.num_classes, part.time_embed_dim) == (64, 10, 512)
    assert part.model_dump()["type"] == "adm-unet"
    # The enlarged small image is concatenated to the noisy one.
    assert backbones.create("adm-upsampler-64-256").in_channels == 6


def test_the_reading_of_the_misprint_is_described():
    assert backbones.describe("adm-large").endswith('attention resolutions, printed as "32,64,8", are read as 32, 16 and 8.')
    assert set(ADM_PRESETS) <= set(backbones.names())
