import torch
from diffusers import DDPMScheduler

from etsdm.randomness import generator
from etsdm.schedules import Linear
from etsdm.targets import X0


def test_the_output_is_the_image_and_the_noise_is_what_is_left():
    alpha, sigma = torch.tensor([0.8, 0.6], dtype=torch.float64), torch.tensor([0.6, 0.8], dtype=torch.float64)
    c = X0().coefficients(alpha, sigma)
    assert c.c_skip.tolist() == [0, 0]
    assert c.c_out.tolist() == [1, 1]
    torch.testing.assert_close(c.e_skip, 1 / sigma)  # eps = (x - alpha x0) / sigma
    torch.testing.assert_close(c.e_out, -alpha / sigma)


def test_diffusers_has_the_same_image():
    peer = DDPMScheduler(prediction_type="sample", clip_sample=False)
    x, output = torch.randn(2, 1, 4, 4, generator=generator(0, "test/x0"))
    c = X0().coefficients(*Linear().alpha_sigma(300))
    assert torch.equal(c.c_skip.float() * x + c.c_out.float() * output, peer.step(output, 300, x).pred_original_sample)
