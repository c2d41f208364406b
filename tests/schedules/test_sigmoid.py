import pytest
import torch

from etsdm.registry import format_errors
from etsdm.schedules import Sigmoid


def test_alpha_bar_is_the_published_program():
    # Jabri et al. 2022, algorithm 5: (sig(end/tau) - sig(u/tau))/(sig(end/tau) - sig(start/tau)).
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    for start, end, tau in ((-3.0, 3.0, 1.0), (-3.0, 3.0, 0.7), (0.0, 3.0, 0.9)):
        curve = torch.sigmoid((t * (end - start) + start) / tau)
        expected = (curve[-1] - curve) / (curve[-1] - curve[0])
        torch.testing.assert_close(Sigmoid(start=start, end=end, tau=tau).alpha_bar(t), expected, rtol=0, atol=1e-14)


def test_a_symmetric_piece_has_as_much_signal_as_noise_in_the_middle():
    assert Sigmoid().log_snr(0.5).item() == pytest.approx(0, abs=1e-14)


def test_high_temperature_is_a_straight_line():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    torch.testing.assert_close(Sigmoid(tau=1e4).alpha_bar(t), 1 - t, rtol=0, atol=1e-8)


def test_low_temperature_overflows_nowhere():
    steep = Sigmoid(tau=1e-3)
    t = torch.tensor([0.0, 0.4, 0.5, 0.6, 1.0], dtype=torch.float64)
    torch.testing.assert_close(steep.alpha_bar(t), torch.tensor([1, 1, 0.5, 0, 0], dtype=torch.float64))


@pytest.mark.parametrize(("start", "end"), [(3.0, -3.0), (1.0, 1.0)])
def test_a_start_behind_the_end_is_refused(start, end):
    with pytest.raises(ValueError, match="start") as error:
        Sigmoid(start=start, end=end)
    assert format_errors(error.value) == [(("start",), f"{start:g} is not below end, {end:g}; give a smaller start")]


@pytest.mark.parametrize("tau", [0, -1])
def test_a_temperature_is_positive(tau):
    with pytest.raises(ValueError, match="tau"):
        Sigmoid(tau=tau)
