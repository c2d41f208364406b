"""Every signature of `etsdm.wrap` against the network called by hand, and what it asks for where a configuration is silent."""

import diffusers
import pytest
import torch
from torch import nn

from etsdm.backbones.signature import Signature
from etsdm.errors import PartError
from etsdm.interop import wrap
from etsdm.randomness import per_sample_normal

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
ETSDM = {"type": "e-tsdm", "t_tilde": 100, "n": 5}
T = torch.tensor([0.0, 19.0, 57.0, 999.0])
MAPPED = torch.tensor([0.0, 0.0, 40.0, 999.0])  # left edges of [0, 20) and [40, 60)
BLOCKS = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
UNET = {**BLOCKS, "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
CROSS = {
    **BLOCKS,
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "cross_attention_dim": 12,
    "attention_head_dim": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}
DIT = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1, "sample_size": 8, "in_channels": 4, "patch_size": 2}
TEXT = per_sample_normal(0, "test/text", range(4), (3, 12))


def images(*shape):
    return per_sample_normal(0, "test/images", range(4), shape)


def labels():
    return torch.tensor([0, 1, 2, 3])


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval()


def unet(**changes):
    return seeded(lambda: diffusers.UNet2DModel(**{"sample_size": 8, "in_channels": 1, "out_channels": 1, **UNET, **changes}))


def conditional(**changes):
    return seeded(lambda: diffusers.UNet2DConditionModel(**{**CROSS, **changes}))


def dit(**changes):
    return seeded(lambda: diffusers.DiTTransformer2DModel(**{**DIT, "num_embeds_ada_norm": 5, **changes}))


def check(network, call, cond=None, **options):
    """A denoiser's output is the call by hand, at the time itself and at its condition."""
    options = {"schedule": "linear", "target": "eps", **options}
    cond = cond or {}
    denoiser = wrap(network, **options)
    x = images(*denoiser.shape)
    channels = denoiser.shape[0]
    with torch.no_grad():
        assert torch.equal(denoiser.output(x, T, **cond), call(x, T)[:, :channels])
        shared = wrap(network, **options, condition_map=ETSDM)
        assert torch.equal(shared.output(x, T, **cond), call(x, MAPPED)[:, :channels])
        assert not torch.equal(shared.output(x, T, **cond), call(x, T)[:, :channels])
    return denoiser


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


def test_a_missing_condition_is_named():
    with pytest.raises(PartError, match=r"^encoder_hidden_states: is missing, .* give encoder_hidden_states= .* conditions="):
        wrap(conditional(), schedule="sd", target="v").output(images(4, 8, 8), T)


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


def test_a_network_that_looks_its_timestep_up_takes_integers():
    table = nn.Embedding(1000, 1)
    signature = Signature(time_argument="step", time_dtype="int64")

    def net(x, step):
        return x + table(step)[..., None, None]

    check(net, lambda x, t: net(x, t.long()), shape=(1, 8, 8), signature=signature)
    half = wrap(net, schedule="linear", target="eps", shape=(1, 8, 8), signature=signature)
    x = images(1, 8, 8)
    assert torch.equal(half.output(x, T[:3].mean().expand(4)), net(x, torch.full((4,), 25)))  # 25.33


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


class Guided(nn.Module):
    """With the attributes and the call of guided-diffusion's `UNetModel`."""

    def __init__(self, num_classes=None, out_channels=6):
        super().__init__()
        self.image_size, self.in_channels, self.out_channels, self.num_classes = 8, 3, out_channels, num_classes
        self.conv = nn.Conv2d(3, out_channels, 1)

    def forward(self, x, timesteps, y=None):
        assert (y is not None) == (self.num_classes is not None)
        return self.conv(x) + (timesteps / 1000 + (0 if y is None else y))[:, None, None, None]


Guided.__module__, Guided.__name__ = "guided_diffusion.unet", "UNetModel"


@pytest.mark.parametrize("classes", [None, 4])
def test_guided_diffusion(classes):
    net = Guided(classes)
    cond = {} if classes is None else {"y": labels()}
    denoiser = check(net, lambda x, t: net(x, t, **cond), cond)
    assert (denoiser.shape, denoiser.num_classes, denoiser.learns_variance) == ((3, 8, 8), classes, True)
    prediction = denoiser.predict(images(3, 8, 8), T, **cond)
    assert torch.equal(prediction.variance_logit, net(images(3, 8, 8), T, **cond)[:, 3:])


def preconditioned(call, sigma, x, **cond):
    """x0 of Karras et al. 2022, table 1, with sigma_data 0.5."""
    s = sigma[:, None, None, None]
    scale = (s**2 + 0.25).sqrt()
    return 0.25 / scale**2 * x + 0.5 * s / scale * call(x / scale, sigma.log() / 4, **cond)


class Inner(nn.Module):
    def __init__(self, label_dim=0):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.map_noise = nn.Identity()
        self.map_label = nn.Linear(label_dim, 1, bias=False) if label_dim else None

    def forward(self, x, noise_labels, class_labels=None):
        shift = noise_labels if self.map_label is None else noise_labels + self.map_label(class_labels)[:, 0]
        return self.conv(x) + shift[:, None, None, None]


Inner.__module__, Inner.__name__ = "training.networks", "SongUNet"


class EDMPrecond(nn.Module):
    """With the attributes and the call of EDM's preconditioned networks."""

    def __init__(self, label_dim=0):
        super().__init__()
        self.img_resolution, self.img_channels, self.label_dim, self.sigma_max = 8, 3, label_dim, float("inf")
        self.model = Inner(label_dim)

    def forward(self, x, sigma, class_labels=None, force_fp32=False):
        cond = {} if class_labels is None else {"class_labels": class_labels}
        return preconditioned(self.model, sigma.float().flatten(), x.float(), **cond)


class KDenoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner_model = Inner()

    def forward(self, input, sigma, **kwargs):
        return preconditioned(self.inner_model, sigma, input, **kwargs)


KDenoiser.__module__, KDenoiser.__name__ = "k_diffusion.layers", "Denoiser"
SIGMA = torch.tensor([0.002, 0.5, 3.0, 80.0])


def test_a_denoiser_of_edm_gives_x0_exactly():
    net, x = EDMPrecond(), 80 * images(3, 8, 8)
    denoiser = wrap(net)
    assert (denoiser.schedule.type_name, denoiser.shape) == ("edm", (3, 8, 8))
    assert torch.equal(denoiser.predict(x, SIGMA).x0.float(), net(x, SIGMA))


def test_labels_of_edm_are_one_hot_and_its_null_class_is_zeros():
    net, x = EDMPrecond(4), images(3, 8, 8)
    assert wrap(net).num_classes == 4
    denoiser = wrap(net, num_classes=5)
    y = torch.tensor([0, 3, 4, 4])
    one_hot = torch.cat([torch.eye(4)[[0, 3]], torch.zeros(2, 4)])
    assert torch.equal(denoiser.predict(x, SIGMA, y=y).x0.float(), net(x, SIGMA, one_hot))


def test_a_denoiser_of_k_diffusion_and_its_inner_network_agree():
    net, x = KDenoiser(), images(3, 8, 8)
    outer = wrap(net, shape=(3, 8, 8))
    inner = wrap(net.inner_model, schedule="edm", target="edm", shape=(3, 8, 8))
    assert torch.equal(outer.predict(x, SIGMA).x0.float(), net(x, SIGMA))
    torch.testing.assert_close(inner.predict(x, SIGMA).x0.float(), net(x, SIGMA))


def test_the_largest_sigma_of_a_denoiser_is_that_of_its_schedule():
    net = KDenoiser()
    net.sigma_max = torch.tensor(14.6146)
    assert wrap(net, shape=(3, 8, 8)).schedule.domain[1] == pytest.approx(14.6146)


@pytest.mark.parametrize(("field", "options"), [("schedule", {"schedule": "linear"}), ("target", {"target": "eps"})])
def test_another_schedule_or_target_than_that_of_a_denoiser_is_refused(field, options):
    with pytest.raises(PartError, match=rf"^{field}: .*leave it out"):
        wrap(EDMPrecond(), **options)


def test_a_plain_function():
    denoiser = check(lambda x, t: x + t[:, None, None, None], lambda x, t: x + t[:, None, None, None], shape=(1, 8, 8))
    assert not denoiser.training


def test_a_plain_network_with_classes_of_its_own_name():
    def net(x, t, labels=None):
        return x + (t + labels)[:, None, None, None]

    check(net, lambda x, t: net(x, t, labels()), {"y": labels()}, shape=(1, 8, 8), num_classes=4)


def test_a_label_that_a_plain_network_requires_is_asked_for():
    def net(x, t, y):
        return x + (t + y)[:, None, None, None]

    with pytest.raises(PartError, match=r"^num_classes: is missing, and function requires 'y'; give num_classes="):
        wrap(net, schedule="linear", target="eps", shape=(1, 8, 8))
    wrap(net, schedule="linear", target="eps", shape=(1, 8, 8), conditions={"y": labels()}).output(images(1, 8, 8), T)


@pytest.mark.parametrize("missing", ["schedule", "target", "shape"])
def test_what_a_network_does_not_hold_is_asked_for(missing):
    given = {"schedule": "linear", "target": "eps", "shape": (1, 8, 8)}
    del given[missing]
    with pytest.raises(PartError, match=rf"^{missing}: is missing, and UNet2DModel does not hold it; give "):
        wrap(unet(sample_size=None), **given)


def test_an_input_of_more_than_the_noisy_image_is_refused():
    with pytest.raises(PartError, match=r"^network: UNet2DModel takes 5 channels and returns 1.*give a function f\(x, t\)"):
        wrap(unet(in_channels=5), schedule="linear", target="eps")


def test_a_class_of_diffusers_that_is_called_in_another_way_is_refused():
    net = diffusers.UNet1DModel(sample_size=8, in_channels=1, out_channels=1, block_out_channels=(32, 32, 64))
    with pytest.raises(PartError, match=r"^signature: UNet1DModel of diffusers is none of UNet2DModel, .*give 'diffusers' if"):
        wrap(net, schedule="linear", target="eps", shape=(1, 8, 8))


def test_an_unknown_signature_is_refused():
    with pytest.raises(PartError, match=r"^signature: 'diffuser' is unknown; did you mean 'diffusers'"):
        wrap(unet(), schedule="linear", target="eps", signature="diffuser")


def test_the_signature_can_be_given():
    def net(sample, timestep, class_labels=None):
        return (sample + timestep[:, None, None, None],)

    check(net, lambda x, t: net(x, t)[0], signature="diffusers", shape=(1, 8, 8))
