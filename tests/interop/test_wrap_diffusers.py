"""Networks of diffusers against the network called by hand."""

import diffusers
import pytest
import torch
from wrapped_networks import DIT, TEXT, T, check, conditional, dit, images, labels, seeded, unet

from etsdm.errors import PartError
from etsdm.interop import wrap
from etsdm.randomness import per_sample_normal

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def test_unet_2d():
    net = unet()
    denoiser = check(net, lambda x, t: net(x, t).sample)
    assert (denoiser.shape, denoiser.num_classes, denoiser.bounded) == ((1, 8, 8), None, True)
    assert denoiser.backbone.network is net


def test_unet_2d_takes_integers_for_the_same_timesteps():
    net, x = unet(), images(1, 8, 8)
    with torch.no_grad():
        assert torch.equal(wrap(net, schedule="linear", target="eps").output(x, T), net(x, T.long()).sample)


def test_unet_2d_with_classes():
    net = unet(num_class_embeds=4)
    denoiser = check(net, lambda x, t: net(x, t, class_labels=labels()).sample, {"y": labels()})
    assert denoiser.num_classes == 4


def test_unet_2d_with_embedded_labels_takes_them_as_a_condition():
    net, states = unet(class_embed_type="identity"), per_sample_normal(0, "test/labels", range(4), (32,))
    denoiser = check(net, lambda x, t: net(x, t, class_labels=states).sample, {"class_labels": states})
    assert denoiser.num_classes is None


def test_unet_2d_of_oblong_images():
    net = unet(sample_size=(8, 16))
    assert check(net, lambda x, t: net(x, t).sample).shape == (1, 8, 16)


def test_unet_2d_condition():
    net = conditional()
    denoiser = check(net, lambda x, t: net(x, t, TEXT).sample, {"encoder_hidden_states": TEXT})
    assert (denoiser.shape, denoiser.bounded) == ((4, 8, 8), False)


def test_fixed_conditions_have_a_row_for_all_images_or_one_for_each():
    net, x = conditional(), images(4, 8, 8)
    one = wrap(net, schedule="sd", target="v", conditions={"encoder_hidden_states": TEXT[:1]})
    each = wrap(net, schedule="sd", target="v", conditions={"encoder_hidden_states": TEXT})
    with torch.no_grad():
        assert torch.equal(one.output(x, T), net(x, T, TEXT[:1].expand(4, -1, -1)).sample)
        assert torch.equal(each.output(x, T), net(x, T, TEXT).sample)
    with pytest.raises(PartError, match=r"^conditions\.encoder_hidden_states: found 4 rows for a batch of 2; give one, or one for each"):
        each.output(x[:2], T[:2])
    with pytest.raises(PartError, match=r"^encoder_hidden_states: is fixed by conditions= already"):
        one.output(x, T, encoder_hidden_states=TEXT)


def test_added_conditions_of_sdxl_go_into_their_mapping():
    net = conditional(addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=6 * 4 + 5)
    added = {"text_embeds": per_sample_normal(0, "test/pooled", range(4), (5,)), "time_ids": torch.arange(24.0).reshape(4, 6)}
    cond = {"encoder_hidden_states": TEXT, **added}
    denoiser = check(net, lambda x, t: net(x, t, TEXT, added_cond_kwargs=added).sample, cond)
    del cond["time_ids"]
    with pytest.raises(PartError, match=r"^time_ids: is missing"):
        denoiser.output(images(4, 8, 8), T, **cond)


def test_dit_counts_its_null_class():
    net = dit()
    denoiser = check(net, lambda x, t: net(x, t, class_labels=labels()).sample, {"y": labels()})
    assert denoiser.num_classes == 6
    with torch.no_grad():  # label 5 is the embedding of dropped labels
        denoiser.output(images(4, 8, 8), T, y=torch.full((4,), 5))


def test_dit_with_a_learned_variance():
    net = dit(out_channels=8)
    denoiser = check(net, lambda x, t: net(x, t, class_labels=labels()).sample, {"y": labels()})
    assert denoiser.learns_variance
    x = images(4, 8, 8)
    with torch.no_grad():
        logit = denoiser.predict(x, T, y=labels()).variance_logit
        assert torch.equal(logit, net(x, T, class_labels=labels()).sample[:, 4:])


def transformer(**changes):
    sizes = {"num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 4, "norm_num_groups": 4, "sample_size": 8}
    return seeded(lambda: diffusers.Transformer2DModel(**sizes, **changes))


def test_transformer_2d():
    net = transformer(norm_type="ada_norm_zero", num_embeds_ada_norm=5, patch_size=2, norm_elementwise_affine=False)
    denoiser = check(net, lambda x, t: net(x, timestep=t, class_labels=labels()).sample, {"y": labels()})
    assert denoiser.num_classes == 6


@pytest.mark.parametrize("norm_type", ["ada_norm", "layer_norm"])  # the second is the older name
def test_a_network_of_one_timestep_for_all_images_is_called_once_for_each(norm_type):
    net = transformer(norm_type=norm_type, num_embeds_ada_norm=1000, cross_attention_dim=12)
    with pytest.raises(ValueError, match="unpack"):  # by diffusers, of any time that is no number
        net(images(4, 8, 8)[:1], TEXT[:1], timestep=T[:1].long())

    def by_hand(x, t):
        times = t.long().tolist()
        rows = {time: [i for i, each in enumerate(times) if each == time] for time in times}
        found = {time: net(x[own], TEXT[own], timestep=torch.tensor(time)).sample for time, own in rows.items()}
        return torch.stack([found[time][rows[time].index(i)] for i, time in enumerate(times)])

    denoiser = check(net, by_hand, {"encoder_hidden_states": TEXT})
    x = images(4, 8, 8)
    with torch.no_grad():
        assert torch.equal(denoiser.output(x, 57.0, encoder_hidden_states=TEXT), net(x, TEXT, timestep=torch.tensor(57)).sample)
    loss = denoiser.output(x, T, encoder_hidden_states=TEXT).square().mean()
    loss.backward()
    assert net.transformer_blocks[0].norm1.emb.weight.grad[T.long()].abs().sum(1).gt(0).all()


def test_pixart():
    net = seeded(
        lambda: diffusers.PixArtTransformer2DModel(
            **DIT, caption_channels=12, cross_attention_dim=16, out_channels=8, num_embeds_ada_norm=1000
        )
    )
    assert net.use_additional_conditions is False
    denoiser = check(net, lambda x, t: net(x, TEXT, timestep=t).sample, {"encoder_hidden_states": TEXT})
    assert denoiser.learns_variance


def test_sd3_on_the_flow_schedule_gets_a_thousand_sigmas():
    sizes = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8, "joint_attention_dim": 12, "caption_projection_dim": 16}
    net = seeded(lambda: diffusers.SD3Transformer2DModel(sample_size=8, in_channels=4, out_channels=4, pooled_projection_dim=5, **sizes))
    cond = {"encoder_hidden_states": TEXT, "pooled_projections": torch.ones(4, 5)}
    x, sigma = images(4, 8, 8), torch.tensor([0.1, 0.25, 0.5, 1.0])
    denoiser = wrap(net, schedule="flow", target="flow")
    with torch.no_grad():
        assert torch.equal(denoiser.output(x, sigma, **cond), net(x, timestep=1000 * sigma, **cond).sample)
