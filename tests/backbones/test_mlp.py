import copy
import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from etsdm.backbones.mlp import MLP
from etsdm.randomness import per_sample_normal, seeded_global_rng
from etsdm.registry import backbones, format_errors

SMALL = {"image_size": 1, "in_channels": 3, "out_channels": 3, "width": 16, "depth": 2, "time_embed_dim": 8}


def network(fill=True, **changes):
    """A network in evaluation mode, with its zero-initialised layers filled unless told otherwise."""
    with seeded_global_rng(0, "test/weights"):
        built = MLP(**{**SMALL, **changes}).build().eval()
        for parameter in built.parameters():
            if fill and parameter.count_nonzero() == 0:
                nn.init.normal_(parameter, std=0.2)
    return built


def images(batch, channels=3, size=1):
    return per_sample_normal(0, "test/images", range(batch), (channels, size, size))


def times(batch):
    return torch.linspace(0, 999, batch)


def test_the_part_is_registered_and_comes_back_from_its_dump():
    part = backbones.create("mlp", **SMALL, num_classes=4, dropout=0.1)
    assert backbones.parse(part.model_dump(mode="json")) == part
    assert part.divisor == 1


@pytest.mark.parametrize(("name", "shape"), [("mlp-plane", (2, 1, 1)), ("mlp-digits", (1, 8, 8))])
def test_presets_take_what_they_are_for(name, shape):
    out = backbones.create(name).build()(torch.zeros(3, *shape), times(3))
    assert out.shape == (3, *shape)


def test_parameters_are_those_of_the_layers():
    # Time: 8*8+8 twice. In: 3*16+16. A block: 8*32+32 of the condition and 16*16+16 twice. Out: a norm, 16*5+5. Labels: 4*8.
    count = 2 * 72 + 64 + 2 * (288 + 2 * 272) + 32 + 85 + 32
    assert sum(parameter.numel() for parameter in network(out_channels=5, num_classes=4).parameters()) == count


def test_the_output_is_the_formula():
    built, x, y = network(depth=1, num_classes=4), images(2), torch.tensor([1, 3])
    p = dict(built.named_parameters())

    def linear(key, x):
        return x @ p[f"{key}.weight"].T + p[f"{key}.bias"]

    def norm(x):
        return (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt()

    def silu(x):
        return x / (1 + (-x).exp())

    phase = torch.tensor([[t * 10000 ** (-i / 4) for i in range(4)] for t in (0.0, 7.0)])
    c = linear("time_embed.2", silu(linear("time_embed.0", torch.cat([phase.cos(), phase.sin()], dim=1))))
    c = silu(c + p["label_emb.weight"][y])
    h = linear("inner", x[:, :, 0, 0])
    scale, shift = linear("blocks.0.condition", c).split(16, dim=1)
    h = h + linear("blocks.0.layers.3", silu(linear("blocks.0.layers.0", norm(h) * (1 + scale) + shift)))
    out = linear("out.2", silu(norm(h) * p["out.0.weight"] + p["out.0.bias"]))
    assert torch.allclose(built(x, torch.tensor([0.0, 7.0]), y)[:, :, 0, 0], out, atol=1e-5)


def test_a_fresh_network_gives_exactly_zero():
    assert network(fill=False)(images(2), times(2)).count_nonzero() == 0


def test_a_point_does_not_depend_on_the_others_of_its_batch():
    built, x, t = network(), images(5), times(5)
    assert torch.allclose(built(x, t)[3:4], built(x[3:4], t[3:4]), atol=1e-6)


def test_images_are_taken_as_one_vector():
    built = network(image_size=4, in_channels=1, out_channels=2)
    assert built(images(3, 1, 4), times(3)).shape == (3, 2, 4, 4)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    shuffled = copy.deepcopy(built)
    shuffled.inner.weight.data = built.inner.weight[:, order]
    x = images(3, 1, 4)
    assert torch.allclose(shuffled(x.flatten(2)[:, :, order].reshape(x.shape), times(3)), built(x, times(3)), atol=1e-5)


def test_the_identity_can_be_learned():
    # The exact noise prediction of N(0, I) is a multiple of x; a network that cannot fit it is of no use on a mixture.
    built = network(fill=False, width=32)
    x, t = images(64), times(64)
    optimizer = torch.optim.Adam(built.parameters(), lr=5e-3)
    for _ in range(100):
        loss = (built(x, t) - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


def test_wrong_calls_are_refused():
    with pytest.raises(ValueError, match=r"^x .* \(2, 3\); give \(batch, 3, height, width\)$"):
        network()(torch.zeros(2, 3), times(2))
    with pytest.raises(ValueError, match=r"^x .* 2 .* 1; give 1 by 1, the image_size$"):
        network()(torch.zeros(2, 3, 2, 1), times(2))
    with pytest.raises(ValueError, match=r"^labels .*; give y, one of 4 classes an image$"):
        network(num_classes=4)(images(2), times(2))


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"width": 0}, "width", "found 0; give a value above 0"),
        ({"time_embed_dim": 1}, "time_embed_dim", "found 1; give 2 or more"),
        ({"dropout": 1.0}, "dropout", "found 1.0; give a value below 1"),
        ({"hidden": 3}, "hidden", "unknown field"),
    ],
)
def test_a_field_out_of_bounds_is_refused(changes, field, message):
    with pytest.raises(ValidationError) as error:
        MLP(**{**SMALL, **changes})
    (problem,) = format_errors(error.value)
    assert (problem.field, problem.message[: len(message)]) == (field, message)


def test_the_derivative_by_time_is_that_of_finite_differences():
    built, x = network().double(), images(2).double()
    time = torch.tensor([3.0, 40.0], dtype=torch.float64)
    _, tangent = torch.func.jvp(lambda t: built(x, t), (time,), (torch.ones_like(time),))
    # The sinusoids are float32, so the step is wide.
    step = 0.02
    difference = (built(x, time + step) - built(x, time - step)) / (2 * step)
    assert torch.allclose(tangent, difference, atol=2e-3 * math.sqrt(tangent.square().mean().item()) + 1e-4)


def test_the_network_is_one_graph():
    built, y = network(num_classes=3), torch.arange(2)
    compiled = torch.compile(built, fullgraph=True, backend="eager")
    assert torch.equal(compiled(images(2), times(2), y), built(images(2), times(2), y))
