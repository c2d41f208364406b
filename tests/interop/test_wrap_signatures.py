"""Networks of guided-diffusion, EDM and k-diffusion, and plain functions, against the network called by hand."""

import pytest
import torch
from torch import nn
from wrapped_networks import T, check, images, labels

from etsdm.backbones.signature import Signature
from etsdm.errors import PartError
from etsdm.interop import wrap

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


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


def test_a_network_that_looks_its_timestep_up_takes_integers():
    table = nn.Embedding(1000, 1)
    signature = Signature(time_argument="step", time_dtype="int64")

    def net(x, step):
        return x + table(step)[..., None, None]

    check(net, lambda x, t: net(x, t.long()), shape=(1, 8, 8), signature=signature)
    half = wrap(net, schedule="linear", target="eps", shape=(1, 8, 8), signature=signature)
    x = images(1, 8, 8)
    assert torch.equal(half.output(x, T[:3].mean().expand(4)), net(x, torch.full((4,), 25)))  # 25.33


def test_the_signature_can_be_given():
    def net(sample, timestep, class_labels=None):
        return (sample + timestep[:, None, None, None],)

    check(net, lambda x, t: net(x, t)[0], signature="diffusers", shape=(1, 8, 8))
