"""Condition maps that a network brings along: in its configuration, or before its timestep."""

import pytest
import torch
from wrapped_networks import MAPPED, T, by_hand, output, unet, wrapped

import etsdm
from etsdm.errors import PartError
from etsdm.interop import wrap

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def test_a_stored_map_is_the_denoisers_and_a_given_one_goes_before_it():
    net = unet()
    net.register_to_config(condition_map={"type": "e-tsdm", "t_tilde": 100.0, "n": 5})
    assert torch.equal(output(wrapped(net)), by_hand(net, MAPPED))
    assert torch.equal(output(wrapped(net, condition_map="identity")), by_hand(net))


def test_a_stored_map_of_timesteps_is_converted_to_the_schedules_unit():
    net = unet()
    net.register_to_config(condition_map={"type": "shared-intervals", "edges": [0.0, 50.0, 100.0], "representative": "mid"})
    denoiser = wrap(net, schedule="flow", target="flow")
    assert denoiser.condition_map.edges == (0, 0.05, 0.1)
    t = torch.tensor([0.01, 0.06, 0.1, 0.5])
    torch.testing.assert_close(output(denoiser, t), by_hand(net, torch.tensor([25.0, 75.0, 100.0, 500.0])))


@pytest.mark.parametrize("stored", [3, {"type": "none"}, {"type": "e-tsdm", "n": 0}, [1]])
def test_a_stored_value_that_is_no_map_is_refused(stored):
    net = unet()
    net.register_to_config(condition_map=stored)
    with pytest.raises(PartError, match=r"^network\.config\.condition_map: .*, or give condition_map="):
        wrapped(net)


class TestShared:
    """Networks with a map before their timestep, of `etsdm.share_timesteps`."""

    def test_its_map_is_the_denoisers_and_is_applied_once(self):
        net = unet()
        etsdm.share_timesteps(net, 100, 5)
        denoiser = wrapped(net)
        assert (denoiser.condition_map.t_tilde, denoiser.condition_map.n) == (100, 5)
        assert torch.equal(output(denoiser), by_hand(unet(), MAPPED))
        assert torch.equal(denoiser.condition(T), MAPPED)

    def test_another_map_is_refused(self):
        net = unet()
        etsdm.share_timesteps(net, 100, 5)
        with pytest.raises(PartError, match=r"^condition_map: the network applies .*take the map off the network"):
            wrapped(net, condition_map="identity")

    def test_a_map_that_changes_its_own_conditions_is_refused(self):
        net = unet()
        etsdm.share_timesteps(net, condition_map={"type": "shared-intervals", "edges": [0, 20, 40], "representative": "right"})
        with pytest.raises(PartError, match=r"^condition_map: .*changes its own conditions"):
            wrapped(net)

    def test_times_of_flow_matching(self):
        net = unet()
        etsdm.share_timesteps(net, 100, 5)
        denoiser = wrap(net, schedule="flow", target="flow")
        assert denoiser.condition_map.t_tilde == pytest.approx(0.1)
        found = output(denoiser, torch.tensor([0.005, 0.019, 0.05, 0.9]))
        torch.testing.assert_close(found, by_hand(unet(), torch.tensor([0.0, 0.0, 40.0, 900.0])))
