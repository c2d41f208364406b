"""The diffusion transformer.

`tests/reference/dit.json` holds what facebookresearch/DiT gave with torch 2.14.1 on a CPU: parameter counts, numbers of keys and key
digests of the twelve networks of its paper, and a small one with its output. Its weights are drawn from a generator seeded by the CRC
of the key: standard normal over the square root of the fan-in; 1 + 0.1 z for vectors named weight; 0.1 z for biases.
"""

import json
import math
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import torch
from diffusers import DiTTransformer2DModel
from pydantic import ValidationError
from recorded import assert_recorded, normals, weight
from torch import nn

from etsdm.backbones.dit import DiT
from etsdm.backbones.dit_network import DiTBlock, position_embedding
from etsdm.randomness import per_sample_normal, seeded_global_rng
from etsdm.registry import backbones, format_errors

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "dit.json").read_text())

SMALL = {"image_size": 8, "in_channels": 3, "out_channels": 3, "patch_size": 2, "hidden_size": 24, "depth": 2, "num_heads": 3}


def spec(**changes):
    return DiT(**{**SMALL, **changes})


def network(fill=True, **changes):
    """A network in evaluation mode, with its zero-initialised layers filled unless told otherwise."""
    with seeded_global_rng(0, "test/weights"):
        built = spec(**changes).build().eval()
        for parameter in built.parameters():
            if fill and parameter.count_nonzero() == 0:
                nn.init.normal_(parameter, std=0.1)
    return built


def images(batch, channels=3, size=8):
    return per_sample_normal(0, "test/images", range(batch), (channels, size, size))


def times(batch):
    return torch.linspace(0, 999, batch)


def refused(**changes):
    """The field that is refused, and the sentence."""
    with pytest.raises(ValidationError) as error:
        spec(**changes)
    (problem,) = format_errors(error.value)
    return problem.field, problem.message


@pytest.mark.parametrize("name", REFERENCE["published"])
def test_presets_have_the_original_keys_and_shapes(name):
    case = REFERENCE["published"][name]
    with torch.device("meta"):
        built = backbones.create(name.lower().replace("/", "-")).build()
    shapes = {key: list(value.shape) for key, value in built.state_dict().items()}
    assert len(shapes) == case["keys"]
    assert zlib.crc32(json.dumps(sorted(shapes.items())).encode()) == case["digest"]
    # The original counts the embedding of places, which is not trained.
    assert sum(parameter.numel() for parameter in built.parameters()) + built.pos_embed.numel() == case["parameters"]


# Table 4 of the paper, in millions.
@pytest.mark.parametrize(("name", "millions"), [("dit-s-2", 33), ("dit-b-2", 130), ("dit-l-2", 458), ("dit-xl-2", 675)])
def test_presets_have_the_published_sizes(name, millions):
    with torch.device("meta"):
        built = backbones.create(name).build()
    assert sum(parameter.numel() for parameter in built.parameters()) == pytest.approx(millions * 1e6, abs=0.6e6)


def test_the_output_is_the_original_one():
    case = REFERENCE["forward"]
    # The original does not count the label of no class.
    part = DiT(**{**case["arguments"], "num_classes": case["arguments"]["num_classes"] + 1})
    built = part.build().eval()
    own = built.state_dict()
    assert [(key, list(value.shape)) for key, value in own.items()] == list(case["state"].items())
    # The embedding of places keeps its own values.
    drawn = {key: own[key] if key == "pos_embed" else weight(key, shape) for key, shape in case["state"].items()}
    built.load_state_dict(drawn, strict=True)
    x = normals(0, 2, part.in_channels, part.image_size, part.image_size)
    with torch.no_grad():
        out = built(x, torch.tensor(case["t"]), torch.tensor(case["y"]))
    assert_recorded(out, case["output"])


def diffusers_keys(built):
    """Our state dict under diffusers' names, which has time and label embeddings in every block and q, k, v apart."""
    own = built.state_dict()
    state = {"pos_embed.proj.weight": own["x_embedder.proj.weight"], "pos_embed.proj.bias": own["x_embedder.proj.bias"]}
    for kind in ("weight", "bias"):
        for i in range(len(built.blocks)):
            ours, theirs = f"blocks.{i}", f"transformer_blocks.{i}"
            state[f"{theirs}.norm1.emb.timestep_embedder.linear_1.{kind}"] = own[f"t_embedder.mlp.0.{kind}"]
            state[f"{theirs}.norm1.emb.timestep_embedder.linear_2.{kind}"] = own[f"t_embedder.mlp.2.{kind}"]
            state[f"{theirs}.norm1.emb.class_embedder.embedding_table.weight"] = own["y_embedder.embedding_table.weight"]
            state[f"{theirs}.norm1.linear.{kind}"] = own[f"{ours}.adaLN_modulation.1.{kind}"]
            for part, values in zip("qkv", own[f"{ours}.attn.qkv.{kind}"].chunk(3), strict=True):
                state[f"{theirs}.attn1.to_{part}.{kind}"] = values
            state[f"{theirs}.attn1.to_out.0.{kind}"] = own[f"{ours}.attn.proj.{kind}"]
            state[f"{theirs}.ff.net.0.proj.{kind}"] = own[f"{ours}.mlp.fc1.{kind}"]
            state[f"{theirs}.ff.net.2.{kind}"] = own[f"{ours}.mlp.fc2.{kind}"]
        state[f"proj_out_1.{kind}"] = own[f"final_layer.adaLN_modulation.1.{kind}"]
        state[f"proj_out_2.{kind}"] = own[f"final_layer.linear.{kind}"]
    return state


def test_the_output_is_that_of_diffusers():
    built = network(num_classes=11, out_channels=6)
    # Its feed-forward and norms as in the configuration of facebook/DiT-XL-2-256.
    peer = DiTTransformer2DModel(
        num_attention_heads=3,
        attention_head_dim=8,
        in_channels=3,
        out_channels=6,
        num_layers=2,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=10,  # and one more for no class
    ).eval()
    peer.load_state_dict(diffusers_keys(built))
    x, y = images(3), torch.tensor([0, 4, 9])
    # At time 0 only: diffusers spaces the frequencies of time by 1/127 where the original has 1/128.
    time = torch.zeros(3, dtype=torch.long)
    with torch.no_grad():
        expected = peer(x, timestep=time, class_labels=y).sample
        assert torch.allclose(built(x, time, y), expected, atol=1e-5 * expected.square().mean().sqrt().item() + 1e-6)


def test_places_are_embedded_column_first():
    # Column 2 and row 1 of a 3x3 grid with 8 channels: sines and cosines at frequencies 1 and 10000^(-1/2).
    expected = [f(p * w) for p in (2, 1) for f in (math.sin, math.cos) for w in (1.0, 0.01)]
    embedding = position_embedding(3, 8)
    assert embedding.shape == (9, 8)
    assert embedding[1 * 3 + 2].tolist() == pytest.approx(expected, abs=1e-7)


def test_a_fresh_block_is_the_identity_and_a_fresh_network_gives_zero():
    x = torch.randn(2, 16, 24, generator=torch.Generator().manual_seed(0))
    assert torch.equal(DiTBlock(24, 3, mlp_ratio=4.0, dropout=0.0, drop_path=0.0)(x, x[:, 0]), x)
    assert network(fill=False, num_classes=10)(images(2), times(2), torch.tensor([0, 9])).count_nonzero() == 0


def test_fresh_weights_have_the_original_spreads():
    built = network(fill=False, image_size=16, hidden_size=256, depth=1, num_heads=4, num_classes=1000)
    # Xavier: the standard deviation of a weight is sqrt(2 / (inputs + outputs)).
    spreads = {
        "x_embedder.proj.weight": math.sqrt(2 / (3 * 2 * 2 + 256)),
        "blocks.0.attn.qkv.weight": math.sqrt(2 / (256 + 768)),
        "blocks.0.mlp.fc1.weight": math.sqrt(2 / (256 + 1024)),
        "t_embedder.mlp.0.weight": 0.02,
        "t_embedder.mlp.2.weight": 0.02,
        "y_embedder.embedding_table.weight": 0.02,
    }
    state = built.state_dict()
    for key, spread in spreads.items():
        assert state[key].std().item() == pytest.approx(spread, rel=0.05), key
    assert all(value.count_nonzero() == 0 for key, value in state.items() if key.endswith(".bias"))


def test_a_patch_of_the_output_depends_on_its_own_token_alone_in_the_last_layer():
    built = network()
    tokens = torch.randn(1, 16, 24, generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[0, 1 * 4 + 2] += 1  # row 1, column 2 of the 4x4 grid

    def images_of(tokens):
        # All blocks give these tokens.
        hooks = [built.blocks[-1].register_forward_hook(lambda *_: tokens)]
        out = built(images(1), times(1))
        for hook in hooks:
            hook.remove()
        return out[0]

    where = (images_of(changed) - images_of(tokens)).abs().sum(0) > 0
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[2:4, 4:6] = True
    assert torch.equal(where, expected)


def test_the_label_of_no_class_is_one_of_the_labels_and_training_drops_none():
    built, y = network(num_classes=11).train(), torch.tensor([3, 10] * 20)
    table = built.y_embedder.embedding_table.weight
    assert table.shape == (11, 24)
    assert torch.equal(built.y_embedder(y), table[y])
    assert not hasattr(network(), "y_embedder")


def test_branches_are_left_out_image_by_image_in_training():
    built = network(drop_path=0.5, depth=3).train()
    assert [block.drop_path.drop_prob for block in built.blocks] == [0.0, 0.25, 0.5]
    x, c = torch.randn(2, 1, 16, 24, generator=torch.Generator().manual_seed(0)).expand(2, 400, 16, 24)
    with seeded_global_rng(0, "test/dropout"), torch.no_grad():
        out = built.blocks[2](x, c[:, 0])
    kept = (out - x).flatten(1).abs().amax(1) > 0
    # An image keeps neither branch with probability 1/4; the standard error is 0.022.
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.09)
    with seeded_global_rng(0, "test/dropout"), torch.no_grad():
        assert torch.equal(built.blocks[2](x, c[:, 0]), out)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (8, 4), (4, 8)])
def test_images_of_another_size_are_refused(height, width):
    with pytest.raises(ValueError, match=rf"^x .* {height} .* {width}; give 8 by 8, the image_size$"):
        network()(torch.zeros(2, 3, height, width), times(2))


def test_other_wrong_calls_are_refused():
    with pytest.raises(ValueError, match=r"^x .* \(2, 1, 8, 8\); give \(batch, 3, height, width\)$"):
        network()(torch.zeros(2, 1, 8, 8), times(2))
    with pytest.raises(ValueError, match=r"^labels .*; give y, one of 10 classes an image$"):
        network(num_classes=10)(images(2), times(2))
    with pytest.raises(ValueError, match=r"^labels were given to a network without classes"):
        network()(images(2), times(2), torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"patch_size": 3}, "patch_size", "3 does not divide image_size 8; give a divisor"),
        ({"hidden_size": 30}, "hidden_size", "30 is not a multiple of 4, a sine and a cosine of row and column; give one"),
        ({"num_heads": 5}, "num_heads", "5 does not divide hidden_size 24; give a divisor"),
        ({"mlp_ratio": 0.01}, "mlp_ratio", "0.01 leaves no channel of hidden_size 24; give a larger one"),
        ({"class_dropout_prob": 0.1}, "class_dropout_prob", "unknown field"),
        ({"drop_path": -0.1}, "drop_path", "found -0.1; give 0 or more"),
        ({"learn_sigma": True}, "learn_sigma", "unknown field"),
    ],
)
def test_a_field_out_of_bounds_is_refused(changes, field, message):
    found, sentence = refused(**changes)
    assert (found, sentence[: len(message)]) == (field, message)


def test_the_part_comes_back_from_its_dump():
    part = backbones.create("dit-s-8", image_size=16)
    assert backbones.parse(part.model_dump(mode="json")) == part
    assert (part.divisor, part.image_size) == (8, 16)


def test_channels_last_images_give_the_same_output():
    built, x, t = network(), images(3), times(3)
    assert torch.allclose(built(x.to(memory_format=torch.channels_last), t), built(x, t), atol=1e-5)


def test_the_network_is_one_graph():
    # Capture is what can fail; the backend that runs the graph as it is needs no C++ compiler.
    built, y = network(num_classes=10, dropout=0.1, drop_path=0.1).train(), torch.tensor([0, 9])
    compiled = torch.compile(built, fullgraph=True, backend="eager")
    with seeded_global_rng(0, "test/dropout"):
        expected = built(images(2), times(2), y)
    with seeded_global_rng(0, "test/dropout"):
        assert torch.equal(compiled(images(2), times(2), y), expected)


def test_timm_is_imported_by_the_first_build_alone():
    program = "import sys, etsdm.backbones.dit; print('timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "False\n"
