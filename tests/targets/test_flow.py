import torch
from hypothesis import given
from hypothesis import strategies as st

from etsdm.targets import Flow

TIMES = st.floats(0.01, 0.99).map(lambda t: torch.tensor(t, dtype=torch.float64))


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@given(TIMES, st.floats(-3, 3), st.floats(-3, 3))
def test_the_output_is_the_velocity_of_the_linear_path(t, x0, eps):
    t, x0, eps = t.clone().requires_grad_(), torch.full_like(t, x0), torch.full_like(t, eps)
    (velocity,) = torch.autograd.grad((1 - t) * x0 + t * eps, t)
    close(Flow().training_target(x0, eps, 1 - t, t).detach(), velocity)


@given(TIMES, st.floats(-3, 3), st.floats(-3, 3))
def test_one_euler_step_of_the_ideal_output_leads_to_the_image_and_back_to_the_noise(t, x0, eps):
    x0, eps = torch.full_like(t, x0), torch.full_like(t, eps)
    x, output = (1 - t) * x0 + t * eps, Flow().training_target(x0, eps, 1 - t, t)
    c = Flow().coefficients(1 - t, t)
    close(c.c_skip * x + c.c_out * output, x - t * output)
    close(c.e_skip * x + c.e_out * output, x + (1 - t) * output)
    close(x - t * output, x0)


@given(TIMES, st.floats(-3, 3), st.floats(-3, 3))
def test_the_optimum_is_the_drift_of_the_probability_flow(t, x, score):
    alpha, sigma = 1 - t, t
    optimum = Flow().training_target((x + sigma**2 * score) / alpha, -sigma * score, alpha, sigma)
    # dx/dt = f x - g^2/2 s (paper Eq. 3) with f = d log(alpha)/dt = -1/(1-t), g^2 = d sigma^2/dt - 2 f sigma^2 = 2t/(1-t).
    torch.testing.assert_close(optimum, -x / (1 - t) - t / (1 - t) * score, rtol=1e-12, atol=1e-12 / alpha.item())
