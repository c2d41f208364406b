"""Numbers of the original first stages: CompVis/latent-diffusion (MIT) with the codebook of taming-transformers, torch 2.14.1, CPU.

`published` holds the first stages of its latent diffusion models, `first_stage` small ones with what they encode and decode.
Images are standard normal from seed 0, clamped to [-1, 1].
"""

import json
from pathlib import Path

import pytest
import torch
from recorded import assert_recorded, digest, normals, shapes_of, weight

from etsdm.registry import first_stages

REFERENCE = json.loads((Path(__file__).parents[2] / "reference" / "latent_diffusion.json").read_text())
SMALL = REFERENCE["first_stage"]
PRESETS = {"ffhq": "vq-f4", "celebahq": "vq-f4", "lsun-bedrooms": "vq-f4", "cin256": "vq-f8", "lsun-churches": "kl-f8"}
KINDS = {"VQModelInterface": "vq", "AutoencoderKL": "kl"}


def network(kind):
    case = SMALL[kind]
    codebook = {"n_embed": case["n_embed"]} if kind == "vq" else {}
    built = first_stages.create(kind, **case["ddconfig"], **codebook).build().eval()
    built.load_state_dict({key: weight(key, shape) for key, shape in case["state"].items()}, strict=True)
    return built


def images():
    return normals(0, 2, 3, 32, 32).clamp(-1, 1)


@pytest.mark.parametrize("name", REFERENCE["published"])
def test_the_presets_are_the_published_first_stages(name):
    case = REFERENCE["published"][name]["first_stage"]
    codebook = {"n_embed": case["n_embed"]} if case["n_embed"] else {}
    spec = first_stages.create(PRESETS[name])
    assert spec == first_stages.create(KINDS[case["kind"]], embed_dim=case["embed_dim"], **case["ddconfig"], **codebook)
    with torch.device("meta"):
        built = spec.build()
    for coder in ("encoder", "decoder"):
        module = getattr(built, coder)
        assert digest(shapes_of(module)) == case[f"{coder}_digest"]
        assert sum(parameter.numel() for parameter in module.parameters()) == case[f"{coder}_parameters"]


@pytest.mark.parametrize("name", REFERENCE["published"])
def test_the_latents_of_a_preset_fit_the_published_unet(name):
    unet = REFERENCE["published"][name]["unet"]
    assert first_stages.create(PRESETS[name]).latent_shape == (unet["in_channels"], unet["image_size"], unet["image_size"])


@pytest.mark.parametrize("kind", SMALL)
def test_keys_are_the_original_ones_in_order(kind):
    assert list(shapes_of(network(kind)).items()) == list(SMALL[kind]["state"].items())


@torch.no_grad()
def test_the_vq_stage_encodes_quantises_and_decodes_as_the_original():
    built, case = network("vq"), SMALL["vq"]
    z = built.encode(images())
    assert_recorded(z, case["encoded"])
    assert built.codes(z)[:, 0].tolist() == case["codes_first_row"]
    assert_recorded(built.decode(z), case["decoded"])
    assert_recorded(built.decode_codes(built.codes(z)), case["decoded"])
    assert_recorded(built.decode(built.quantize(z), force_not_quantize=True), case["decoded"])


@torch.no_grad()
def test_the_kl_stage_encodes_and_decodes_the_mean_as_the_original():
    built, case = network("kl"), SMALL["kl"]
    assert_recorded(built.moments(images()), case["encoded"])
    assert_recorded(built.decode(built.encode(images())), case["decoded"])
