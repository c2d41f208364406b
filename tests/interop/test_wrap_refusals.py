"""What `etsdm.wrap` refuses and what it is given where a configuration is silent: each error names the argument."""

import diffusers
import pytest
import torch
from torch import nn
from wrapped_networks import ETSDM, SHAPE, T, conditional, images, labels, unet, wrapped

from etsdm.errors import PartError
from etsdm.interop import wrap

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "liner"}, r"unknown schedule 'liner'; did you mean 'linear'"),
        ({"target": "epsilon"}, r"target: .*known|target: .*did you mean"),
        ({"condition_map": {**ETSDM, "t_tilde": 2000}}, r"condition_map\.t_tilde: 2000 is beyond the schedule's horizon"),
        ({"time_input": "log-sigma"}, r"time_input: 'log-sigma' takes the logarithm"),
        ({"shape": (1, 8)}, r"shape: found \(1, 8\); give \(channels, height, width\)"),
        ({"num_classes": 0}, r"num_classes: found 0"),
        ({"out_channels": 3}, r"(backbone\.)?out_channels: 3 channels, but 1 are denoised"),
        ({"schedule": "zero-terminal-snr"}, r"target: 'eps' does not determine x0"),
    ],
)
def test_an_option_that_does_not_fit_is_named(options, message):
    with pytest.raises(ValueError, match=rf"^{message}"):
        wrapped(unet(), **options)


@pytest.mark.parametrize("model", [3, None, nn.Linear, torch.ones(1)])
def test_what_is_no_network_is_refused(model):
    with pytest.raises(PartError, match=r"^model: found .*; give a network"):
        wrapped(model)


def test_a_denoiser_is_not_wrapped_again(tiny_denoiser):
    with pytest.raises(PartError, match=r"^model: found a Denoiser already; .*\.backbone"):
        wrapped(tiny_denoiser())


def text_network(x, t, text):
    return x + text.mean() + t[:, None, None, None]


@pytest.mark.parametrize("conditions", [{"text": 3}, {"text": torch.ones(())}, {"a b": torch.ones(1)}])
def test_conditions_that_are_no_rows_are_refused(conditions):
    with pytest.raises(PartError, match=r"^conditions.*; give "):
        wrapped(text_network, shape=SHAPE, conditions=conditions)


def test_a_missing_condition_is_named():
    with pytest.raises(PartError, match=r"^encoder_hidden_states: is missing, .* give encoder_hidden_states= .* conditions="):
        wrap(conditional(), schedule="sd", target="v").output(images(4, 8, 8), T)


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


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "labels are missing; give y, one of 4 classes"),
        ([0, 1, 2, 3], "y is a list; give a tensor of integers"),
        (torch.ones(4), r"y is torch\.float32; give a tensor of integers"),
        (torch.tensor([0, 1]), r"y has shape \(2,\); give one label an image"),
        (torch.tensor([0, 1, 2, 4]), "y has the label 4; give labels from 0 to 3"),
        (torch.tensor([0, 1, 2, -1]), "y has the label -1; give labels from 0 to 3"),
    ],
)
def test_labels_that_do_not_fit_are_refused(y, message):
    denoiser = wrapped(unet(num_class_embeds=4))
    with pytest.raises(ValueError, match=f"^{message}"):
        denoiser.output(images(), T, **({} if y is None else {"y": y}))
    with pytest.raises(ValueError, match=r"^labels were given to a network without classes"):
        wrapped(unet()).output(images(), T, y=labels())


@pytest.mark.parametrize(
    ("x", "t", "message"),
    [
        (images(3, 8, 8), T, r"x has shape \(4, 3, 8, 8\); give \(batch, 1, height, width\)"),
        (images().numpy(), T, "x: found a ndarray"),
        (images(), T[:3], r"t: has shape \(3,\) for 4 images"),
        (images(), [1, 2, 3, 4], r"t: found \[1, 2, 3, 4\]; give a number, or a tensor"),
        (images(), T + 1, "t: 1000 is outside the times of schedule 'linear'"),
        (images(), T.to(torch.complex64), r"t: found a tensor of torch\.complex64; give real times"),
    ],
)
def test_arguments_of_a_call_that_do_not_fit_are_refused(x, t, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        wrapped(unet()).output(x, t)
