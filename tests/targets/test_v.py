import torch
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st

from etsdm.randomness import generator
from etsdm.schedules import Linear
from etsdm.targets import V

LEVELS = st.floats(0.01, 1.56).map(lambda angle: torch.tensor([angle], dtype=torch.float64)).map(lambda a: (a.cos(), a.sin()))


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@given(LEVELS, st.floats(-3, 3), st.floats(-3, 3))
def test_the_optimum_is_that_of_the_paper(level, x, score):
    alpha, sigma = level
    # The optimal eps and x0 of a density with this score: -sigma s, and (x + sigma^2 s) / alpha.
    found = V().training_target((x + sigma**2 * score) / alpha, -sigma * score, alpha, sigma)
    torch.testing.assert_close(found, -sigma / alpha * (x + score), rtol=1e-12, atol=1e-12 / alpha.item())  # paper Eq. A10


@given(LEVELS, st.floats(-3, 3))
def test_the_optimum_for_standard_normal_data_is_zero(level, x):
    alpha, sigma = level
    # There the score is -x at every time, so that x + score = 0.
    close(V().training_target(alpha * x, sigma * x, alpha, sigma), torch.zeros(1, dtype=torch.float64))


def test_diffusers_has_the_same_velocity_and_the_same_image_from_it():
    peer = DDPMScheduler(prediction_type="v_prediction", clip_sample=False)
    x0, eps = torch.randn(2, 4, 1, 4, 4, generator=generator(0, "test/v"))
    t = torch.tensor([0, 10, 500, 999])
    alpha, sigma = (value.reshape(-1, 1, 1, 1) for value in Linear().alpha_sigma(t))
    velocity = V().training_target(x0, eps, alpha, sigma)
    torch.testing.assert_close(velocity, peer.get_velocity(x0, eps, t), rtol=0, atol=1e-5)  # diffusers is in single precision
    x = peer.add_noise(x0, eps, t)
    c = V().coefficients(alpha, sigma)
    for k in range(4):
        found = c.c_skip[k].float() * x[k] + c.c_out[k].float() * velocity[k]
        torch.testing.assert_close(found, peer.step(velocity[k], t[k], x[k]).pred_original_sample, rtol=0, atol=1e-5)
