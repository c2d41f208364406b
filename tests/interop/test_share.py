"""`share_timesteps`: what the network receives, how the map is taken off, and what is refused."""

import re

import pytest
import torch
from networks import Net, class_named, unet
from torch import nn

import etsdm
from etsdm.condition_maps import ETSDM
from etsdm.errors import PartError
from etsdm.interop import share_timesteps, timestep_sharing

X = torch.linspace(-1, 1, 256).reshape(4, 1, 8, 8)
NET = {"argument": "t", "unit": "timesteps"}


def message(*parts):
    return ".*".join(re.escape(part) for part in parts)


@pytest.fixture(scope="module")
def model():
    return unet()


def out(model, t):
    with torch.no_grad():
        return model(X, t).sample


# f of the paper with t_tilde = 100 and n = 5, by hand.
TIMES = [
    (torch.tensor([0, 19, 20, 99]), torch.tensor([0, 0, 20, 80])),
    (torch.tensor([100, 101, 500, 999]), torch.tensor([100, 101, 500, 999])),
    (torch.tensor([0.0, 19.99, 20.0, 100.0]), torch.tensor([0.0, 0.0, 20.0, 100.0])),
    (torch.tensor([61.5, 79.9999, 80.0, 99.9]).double(), torch.tensor([60.0, 60.0, 80.0, 80.0]).double()),
    (torch.tensor([7, 21, 45, 200], dtype=torch.int32), torch.tensor([0, 20, 40, 200], dtype=torch.int32)),
    (torch.tensor([7, 21, 45, 200], dtype=torch.uint8), torch.tensor([0, 20, 40, 200], dtype=torch.uint8)),
    (torch.tensor([5, 33, 99, 250]).bfloat16(), torch.tensor([0, 20, 80, 250]).bfloat16()),
    (torch.tensor(39), torch.tensor(20)),
    (torch.tensor(99.5), torch.tensor(80.0)),
    (39, 20),
    (39.5, 20.0),
    (999, 999),
]


@pytest.mark.parametrize(("t", "mapped"), TIMES, ids=lambda t: str(t)[:30])
def test_a_shared_unet_is_that_unet_at_mapped_timesteps_bit_for_bit(model, t, mapped):
    expected, before = out(model, mapped), out(model, t)
    with share_timesteps(model):
        assert torch.equal(out(model, t), expected)
    assert torch.equal(out(model, t), before)


@pytest.mark.parametrize(("t", "mapped"), TIMES, ids=lambda t: str(t)[:30])
def test_the_network_receives_the_type_and_dtype_that_were_given(t, mapped):
    found = share_timesteps(Net(), **NET).timestep_map(t)
    assert type(found) is type(mapped)
    if isinstance(mapped, torch.Tensor):
        assert (found.dtype, found.shape) == (mapped.dtype, mapped.shape)
        assert torch.equal(found, mapped)
    else:
        assert found == mapped


def test_integers_become_floats_where_the_map_has_fractions():
    timestep_map = share_timesteps(Net(), t_tilde=100, n=3, **NET).timestep_map
    found = timestep_map(torch.tensor([0, 34, 67, 100]))
    assert torch.equal(found, torch.tensor([0, 100 / 3, 200 / 3, 100]))
    assert timestep_map(34) == pytest.approx(100 / 3)


def test_forward_and_keyword_calls_are_mapped_too():
    net = Net()
    expected = net(X, 20)
    share_timesteps(net, **NET)
    for call in (
        net(X, 39),
        net(x=X, t=39),
        net(X, t=39),
        net.forward(X, 39),
        net.forward(X, t=torch.tensor(39)),
        nn.Sequential(net)[0](X, 39),
    ):
        assert torch.equal(call, expected)


def test_other_arguments_pass_and_a_missing_timestep_is_the_networks_own_error():
    net = Net()
    expected = net(X, 20, scale=3.0)
    share_timesteps(net, **NET)
    assert torch.equal(net(X, 39, None, scale=3.0), expected)
    with pytest.raises(TypeError, match="'t'"):
        net(X)


def test_a_handle_takes_the_map_off_once():
    net = Net()
    sharing = share_timesteps(net, **NET)
    assert timestep_sharing(net).timestep_map is sharing.timestep_map
    sharing.remove()
    sharing.remove()
    assert timestep_sharing(net) is None
    assert type(net) is Net
    assert torch.equal(net(X, 39), Net()(X, 39))
    again = share_timesteps(net, 50, 1, **NET)
    sharing.remove()  # the old handle does not take off the new map
    assert timestep_sharing(net).condition_map == again.condition_map == ETSDM(t_tilde=50, n=1)


def test_a_second_map_is_refused():
    net = Net()
    share_timesteps(net, **NET)
    with pytest.raises(PartError, match=message("model", "Net", "shared already", "remove()")):
        share_timesteps(net, **NET)


def test_printing_a_model_shows_the_map():
    net = Net()
    assert "condition_map" not in repr(net)
    sharing = share_timesteps(net, **NET)
    assert "condition_map=ETSDM(t_tilde=100.0, n=5" in repr(net)
    assert "Net" in repr(sharing)


@pytest.mark.parametrize("given", ["e-tsdm", {"type": "e-tsdm", "t_tilde": 60, "n": 3}, ETSDM(t_tilde=60, n=3)])
def test_a_condition_map_is_given_by_name_mapping_or_part(given):
    assert isinstance(share_timesteps(Net(), condition_map=given, **NET).condition_map, ETSDM)


def test_a_map_of_other_edges_is_used():
    sharing = share_timesteps(Net(), condition_map={"type": "shared-intervals", "edges": [10, 30], "representative": "mid"}, **NET)
    assert sharing.timestep_map(torch.tensor([9, 10, 29, 30])).tolist() == [9, 20, 20, 30]


@pytest.mark.parametrize(
    ("options", "field", "parts"),
    [
        ({"argument": "t"}, "unit", ("not known", "timesteps", "unit-interval")),
        ({}, "argument", ("Net", "forward(self, x, t, y, scale)", "argument='t'")),
        ({"argument": "time", "unit": "timesteps"}, "argument", ("'time'", "x, t, y, scale")),
        ({"argument": "t", "unit": "seconds"}, "unit", ("'seconds'", "timesteps")),
        ({**NET, "condition_map": "inverse"}, "condition_map", ("'inverse'", "schedule")),
        ({**NET, "condition_map": "e-tsmd"}, "condition_map", ("e-tsmd", "e-tsdm")),
        ({**NET, "condition_map": {"type": "e-tsdm", "share": "both"}}, "condition_map.share", ("both", "leave it out")),
        ({**NET, "condition_map": "e-tsdm", "t_tilde": 50}, "condition_map", ("t_tilde", "one or the other")),
        ({**NET, "t_tilde": 2000}, "condition_map.t_tilde", ("2000", "1000")),
        ({**NET, "horizon": 0}, "horizon", ("0", "1000")),
        ({**NET, "horizon": float("inf")}, "horizon", ("inf", "1000")),
        ({**NET, "horizon": "1000"}, "horizon", ("'1000'", "such as 1000")),
        ({**NET, "n": 0}, "condition_map", ("n: found 0",)),
        ({"argument": "t", "unit": "sigma"}, "condition_map", ("noise level", "edm-vp-equivalent")),
        ({"argument": "t", "unit": "log-sigma", "t_tilde": 100, "n": 5}, "condition_map", ("noise level", "timestep", "edm-vp-equivalent")),
        ({"argument": "t", "unit": "sigma", "condition_map": "e-tsdm"}, "condition_map", ("noise level", "edm-vp-equivalent")),
        (
            {"argument": "t", "unit": "log-sigma", "condition_map": {"type": "shared-intervals", "edges": [0, 0.1]}},
            "condition_map",
            ("the condition 0", "logarithm", "edm-vp-equivalent"),
        ),
        ({"argument": "t", "unit": "log-sigma", "condition_map": "constant"}, "condition_map", ("the condition 0", "logarithm")),
    ],
)
def test_what_does_not_fit_is_refused(options, field, parts):
    net = Net()
    with pytest.raises(PartError, match=message(*parts)) as caught:
        share_timesteps(net, **options)
    assert caught.value.field == field
    assert timestep_sharing(net) is None
    assert type(net) is Net


def test_an_invalid_field_of_the_map_is_named():
    with pytest.raises(ValueError, match=message("t_tilde")):
        share_timesteps(Net(), t_tilde=-1, **NET)


@pytest.mark.parametrize("value", ["soon", [1, 2], True, torch.tensor([True]), torch.tensor([1j])], ids=str)
def test_a_timestep_that_is_no_number_is_refused(value):
    net = Net()
    share_timesteps(net, **NET)
    with pytest.raises(PartError, match=message("t:", "found a", "tensor or a number")):
        net(X, value)


def test_what_is_no_network_is_refused(tiny_denoiser):
    from types import SimpleNamespace

    with pytest.raises(PartError, match=message("model", "SimpleNamespace", "unet or transformer")):
        share_timesteps(SimpleNamespace(scheduler=None))
    with pytest.raises(PartError, match=message("model", "Denoiser", "condition_map", "DenoiserSpec")):
        share_timesteps(tiny_denoiser())


@pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore::torch.jit.TracerWarning")
def test_torchscript_is_refused():
    with pytest.raises(PartError, match=message("model", "TorchScript", "share_scheduler")):
        share_timesteps(torch.jit.trace(Net(), (X, torch.arange(4))), **NET)


def test_modules_whose_time_gives_coefficients_are_refused():
    precond = class_named("training", "EDMPrecond", "sigma")()
    with pytest.raises(PartError, match=message("EDMPrecond", "preconditioning", ".model", "log-sigma")):
        share_timesteps(precond)


class Around(nn.Module):
    """A module around a network, of no known class."""

    def __init__(self):
        super().__init__()
        self.net = Net()

    def forward(self, *args, **kwargs):
        return self.net(*args, **kwargs)


def test_a_module_that_passes_any_arguments_on_is_refused():
    # A positional timestep has no name there, and would pass as it is.
    with pytest.raises(PartError, match=message("model", "Around", "any arguments", "network inside")):
        share_timesteps(Around(), **NET)


def test_a_network_of_keywords_is_mapped():
    class Keywords(Net):
        def forward(self, x, **kwargs):
            return super().forward(x, kwargs["t"])

    net = Keywords()
    share_timesteps(net, **NET)
    assert torch.equal(net(X, t=39), Net()(X, 20))


def test_positional_arguments_have_no_name():
    class Positional(Net):
        def forward(self, *args):
            return super().forward(*args)

    with pytest.raises(PartError, match=message("argument", "forward has no 'args'")):
        share_timesteps(Positional(), argument="args", unit="timesteps")


def test_a_second_map_around_a_shared_network_is_refused():
    class Preconditioned(Around):
        def forward(self, x, t):
            return self.net(x, t)

    around = Preconditioned()
    share_timesteps(around.net, **NET)
    with pytest.raises(PartError, match=message("model", "Preconditioned's Net", "shared already")):
        share_timesteps(around, 50, 1, **NET)


def test_a_tenth_of_the_horizon_is_shared_by_default():
    timestep_map = share_timesteps(Net(), horizon=4000, **NET).timestep_map
    assert timestep_map(torch.tensor([79, 80, 399, 400])).tolist() == [0, 80, 320, 400]


def test_the_network_of_a_wrapped_denoiser_is_refused():
    # The denoiser would record the identity, and its checkpoints with it.
    denoiser = etsdm.wrap(Net(), schedule="linear", target="eps", shape=(1, 8, 8))
    with pytest.raises(PartError, match=message("ExternalNetwork", "condition_map to etsdm.wrap")):
        share_timesteps(denoiser.backbone, **NET)


def test_a_network_that_embeds_its_timestep_outside_forward_is_refused():
    # Chroma of sd-scripts is a subclass of its Flux, whose timestep is known.
    flux = class_named("library", "Flux", "timesteps")
    chroma = type("Chroma", (flux,), {"__module__": "library.chroma_models"})()
    with pytest.raises(PartError, match=message("Chroma", "get_mod_vectors", "before both")):
        share_timesteps(chroma)


def test_a_replaced_forward_is_refused():
    net = Net()
    net.forward = lambda x, t: x
    with pytest.raises(PartError, match=message("model", "forward", "accelerator.prepare")):
        share_timesteps(net, **NET)


def test_a_network_of_etsdm_is_shared(tiny_denoiser):
    backbone = tiny_denoiser().backbone
    expected = backbone(X, torch.tensor([0.0, 20, 80, 100]))
    share_timesteps(backbone)
    assert torch.equal(backbone(X, torch.tensor([19.0, 20, 99, 100])), expected)


def test_a_subclass_that_passes_its_arguments_on_is_mapped_by_position():
    class Passing(Net):
        def forward(self, *args, **kwargs):
            return super().forward(*args, **kwargs)

    t = torch.tensor([5.0, 33.0, 99.0, 250.0])
    model = Passing()
    expected = model(X, torch.tensor([0.0, 20.0, 80.0, 250.0]))
    share_timesteps(model, **NET)
    assert torch.equal(model(X, t), expected)
    assert torch.equal(model(X, t=t), expected)


def test_a_forward_without_names_of_its_arguments_is_refused():
    class Nameless(torch.nn.Module):
        def forward(self, *args, **kwargs):
            return args[0]

    with pytest.raises(PartError, match=r"^model: forward of a Nameless takes any arguments, .*; give the network inside"):
        share_timesteps(Nameless(), **NET)
