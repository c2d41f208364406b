import pytest
import torch
from torch import nn

from etsdm.backbones import ADMUNet, LDMUNet
from etsdm.randomness import per_sample_normal, seeded_global_rng

SMALL = {
    "image_size": 8,
    "in_channels": 3,
    "model_channels": 16,
    "out_channels": 3,
    "num_res_blocks": 1,
    "attention_resolutions": (1, 2),
    "channel_mult": (1, 2),
    "norm_groups": 8,
}
TRANSFORMER = {"use_spatial_transformer": True, "context_dim": 6, "num_heads": 2, "transformer_depth": 2}
EVERY_OPTION = {
    **TRANSFORMER,
    "legacy": False,
    "num_head_channels": 12,
    "dropout": 0.1,
    "num_classes": 10,
    "use_scale_shift_norm": True,
    "resblock_updown": True,
}
LABELS = torch.tensor([0, 9, 4])


def network(**changes):
    """A network in evaluation mode, with its zero-initialised layers filled."""
    with seeded_global_rng(0, "test/weights"):
        built = LDMUNet(**{**SMALL, **changes}).build().eval()
        for parameter in built.parameters():
            if parameter.count_nonzero() == 0:
                nn.init.normal_(parameter, std=0.1)
    return built


def latents(batch, height=8, width=8):
    return per_sample_normal(0, "test/latents", range(batch), (3, height, width))


def contexts(batch, tokens=5):
    return per_sample_normal(0, "test/contexts", range(batch), (tokens, 6))


def times(batch):
    return torch.linspace(0, 999, batch)


def labels(options, batch):
    return LABELS[:batch] if "num_classes" in options else None


def test_without_transformers_it_is_the_adm_network():
    fields = {**SMALL, "num_head_channels": 8, "use_scale_shift_norm": True}
    ours, adm = network(**fields), ADMUNet(**fields).build().eval()
    adm.load_state_dict(ours.state_dict(), strict=True)
    assert torch.equal(ours(latents(2), times(2)), adm(latents(2), times(2)))


def test_a_fresh_network_gives_exactly_zero():
    built = LDMUNet(**{**SMALL, **TRANSFORMER}).build()
    assert built(latents(2), times(2), context=contexts(2)).count_nonzero() == 0


def test_missing_unexpected_and_misshapen_contexts_are_refused():
    built = network(**TRANSFORMER)
    with pytest.raises(ValueError, match=r"^the .*; give context, \(batch, tokens, 6\)$"):
        built(latents(2), times(2))
    for shape in [(2, 6), (1, 5, 6), (2, 5, 7)]:
        with pytest.raises(ValueError, match=r"^context .* \(.*\); give \(2, tokens, 6\)$"):
            built(latents(2), times(2), context=torch.zeros(shape))
    message = r"^a context was given to a network that takes none; leave it out, or set context_dim and no label_context$"
    with pytest.raises(ValueError, match=message):
        network()(latents(2), times(2), context=contexts(2))


def test_what_adm_refuses_is_refused():
    built = network(**EVERY_OPTION)
    with pytest.raises(ValueError, match=r"^x .* 7 .* 8; give multiples of 2$"):
        built(latents(2, height=7), times(2), LABELS[:2], context=contexts(2))
    with pytest.raises(ValueError, match=r"^labels .*; give y, one of 10 classes an image$"):
        built(latents(2), times(2), context=contexts(2))


def test_each_image_sees_its_own_context_whose_order_does_not_matter():
    built, x, context = network(**TRANSFORMER), latents(2), contexts(2)
    out = built(x, times(2), context=context)
    changed = built(x, times(2), context=torch.stack([context[0], -context[1]]))
    assert torch.equal(out[0], changed[0])
    assert not torch.allclose(out[1], changed[1], atol=1e-4)
    assert torch.allclose(built(x, times(2), context=context.flip(1)), out, atol=1e-5)


@pytest.mark.parametrize("tokens", [1, 7])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(4, 4), (12, 20)])
def test_other_sizes_batches_and_numbers_of_tokens_are_taken(batch, height, width, tokens):
    built, x, context = network(**TRANSFORMER), latents(batch, height, width), contexts(batch, tokens)
    out = built(x, times(batch), context=context)
    assert out.shape == x.shape
    assert torch.allclose(out[:1], built(x[:1], times(batch)[:1], context=context[:1]), atol=1e-5)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("options", [TRANSFORMER, EVERY_OPTION])
def test_every_parameter_gets_a_gradient_in_float32_and_under_bfloat16_autocast(options, autocast):
    built = network(**options).train()
    x, context = latents(3).requires_grad_(), contexts(3).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        out = built(x, times(3), labels(options, 3), context=context)
    assert out.dtype == torch.float32
    out.square().mean().backward()
    for name, parameter in [("x", x), ("context", context), *built.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.count_nonzero() > 0, name


@pytest.mark.parametrize("options", [TRANSFORMER, EVERY_OPTION])
def test_bfloat16_is_near_float32(options):
    built, x, t, y, context = network(**options), latents(3), times(3), labels(options, 3), contexts(3)
    exact = built(x, t, y, context=context)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (built(x, t, y, context=context) - exact).norm() < 0.03 * exact.norm()
    # The context may be left in float32.
    out = built.bfloat16()(x.bfloat16(), t, y, context=context)
    assert out.dtype == torch.bfloat16
    assert (out.float() - exact).norm() < 0.03 * exact.norm()


def test_gradient_checkpointing_gives_the_same_gradients():
    built, x, context = network(**EVERY_OPTION).train(), latents(2), contexts(2)
    gradients = []
    for checkpointing in (False, True):
        built.gradient_checkpointing = checkpointing
        built.zero_grad()
        with seeded_global_rng(0, "test/dropout"):
            built(x, times(2), LABELS[:2], context=context).square().mean().backward()
        gradients.append([parameter.grad.clone() for parameter in built.parameters()])
    assert all(torch.equal(first, second) for first, second in zip(*gradients, strict=True))


def test_channels_last_gives_the_same_output():
    built, x, context = network(**TRANSFORMER), latents(2), contexts(2)
    expected = built(x, times(2), context=context)
    built = built.to(memory_format=torch.channels_last)
    assert torch.allclose(built(x.to(memory_format=torch.channels_last), times(2), context=context), expected, atol=1e-5)


def test_the_network_runs_on_the_meta_device():
    with torch.device("meta"):
        built = LDMUNet(**{**SMALL, **EVERY_OPTION}).build()
        out = built(torch.zeros(2, 3, 8, 8), torch.zeros(2), torch.zeros(2, dtype=torch.long), context=torch.zeros(2, 5, 6))
    assert (out.device.type, out.shape) == ("meta", (2, 3, 8, 8))


@pytest.mark.parametrize("options", [TRANSFORMER, EVERY_OPTION])
def test_the_network_is_one_graph(options):
    built, y = network(**options), labels(options, 2)
    compiled = torch.compile(built, fullgraph=True, backend="eager")
    out = built(latents(2), times(2), y, context=contexts(2))
    assert torch.equal(compiled(latents(2), times(2), y, context=contexts(2)), out)


LABEL_CONTEXT = {**TRANSFORMER, "num_classes": 10, "label_context": True}


def test_the_context_of_labels_is_one_token_of_their_embedding():
    labelled, plain = network(**LABEL_CONTEXT), network(**TRANSFORMER)
    weights = labelled.state_dict()
    embedding = weights.pop("label_context.weight")
    assert embedding.shape == (10, 6)
    plain.load_state_dict(weights, strict=True)  # the labels are nowhere else
    expected = plain(latents(3), times(3), context=embedding[LABELS][:, None])
    assert torch.equal(labelled(latents(3), times(3), LABELS), expected)
    assert not torch.allclose(labelled(latents(3), times(3), LABELS.flip(0)), expected, atol=1e-4)


def test_every_parameter_gets_a_gradient_where_labels_are_the_context():
    built = network(**LABEL_CONTEXT).train()
    built(latents(3), times(3), LABELS).square().mean().backward()
    for name, parameter in built.named_parameters():
        assert parameter.grad.count_nonzero() > 0, name
    assert built.label_context.weight.grad.count_nonzero(dim=1).nonzero().flatten().tolist() == [0, 4, 9]


def test_where_labels_are_the_context_they_are_needed_and_no_other_is_taken():
    built = network(**LABEL_CONTEXT)
    with pytest.raises(ValueError, match=r"^labels .*; give y, one of 10 classes an image$"):
        built(latents(3), times(3))
    message = r"^a context was given to a network that takes none; leave it out, or set context_dim and no label_context$"
    with pytest.raises(ValueError, match=message):
        built(latents(3), times(3), LABELS, context=contexts(3, tokens=1))
