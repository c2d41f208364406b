import torch

from etsdm.losses import MSE, Constant, Weighting
from etsdm.randomness import normal
from etsdm.schedules import Linear


class SNR(Weighting):
    """The signal-to-noise ratio."""

    def __call__(self, schedule, t):
        return schedule.snr(t)


def test_the_constant_weighting_is_one():
    weights = Constant()(Linear(), torch.tensor([0, 500, 999]))
    assert weights.tolist() == [1, 1, 1]
    assert weights.dtype == torch.float64


def test_a_loss_is_multiplied_by_its_weight(tiny_denoiser):
    denoiser, t = tiny_denoiser(), torch.tensor([0.0, 300.0, 999.0], dtype=torch.float64)
    x0, eps = normal(0, "test/x0", range(3), (1, 8, 8)), normal(0, "test/eps", range(3), (1, 8, 8))
    plain, weighted = (MSE(weighting=weighting).per_image(denoiser, x0, t, eps) for weighting in (Constant(), SNR()))
    # alpha_bar / (1 - alpha_bar) with guided-diffusion's alpha_bar: 0.9999 at index 0, 4.035829765376e-05 at 999.
    ratio = weighted / plain
    torch.testing.assert_close(
        ratio[[0, 2]], torch.tensor([0.9999 / 1e-4, 4.035829765376e-05 / (1 - 4.035829765376e-05)]), rtol=1e-5, atol=0
    )
