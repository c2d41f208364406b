import pytest
import torch

from etsdm.denoisers.noisy_batch import NoisyBatch
from etsdm.randomness import per_sample_normal

X0, EPS = (per_sample_normal(0, name, range(3), (1, 2, 2)) for name in ("test/x0", "test/eps"))
BATCH = NoisyBatch(X0, EPS, {"y": torch.arange(3)})


def test_one_noise_level_for_all_images():
    assert torch.equal(BATCH.at(0.8, 0.6), 0.8 * X0 + 0.6 * EPS)


@pytest.mark.parametrize("shape", [(3,), (3, 1, 1, 1)])
def test_a_noise_level_for_each_image_in_the_images_precision(shape):
    alpha = torch.tensor([1.0, 0.8, 0.0], dtype=torch.float64)
    sigma = (1 - alpha.square()).sqrt()
    x = BATCH.at(alpha.reshape(shape), sigma.reshape(shape))
    assert x.dtype == torch.float32
    assert torch.equal(x[0], X0[0])
    assert torch.equal(x[2], EPS[2])
    assert torch.equal(x[1], torch.tensor(0.8) * X0[1] + sigma[1].float() * EPS[1])


def test_a_number_keeps_its_digits_on_images_in_double_precision():
    double = NoisyBatch(X0.double(), EPS.double(), {})
    assert torch.equal(double.at(0.1, 0.3), 0.1 * X0.double() + 0.3 * EPS.double())


@pytest.mark.parametrize(("images", "noise", "expected"), [("double", "float", "double"), ("half", "float", "float")])
def test_on_a_device_the_noise_has_the_wider_dtype(images, noise, expected):
    batch = NoisyBatch.on(torch.device("cpu"), getattr(X0, images)(), getattr(EPS, noise)(), {"y": torch.arange(3)})
    assert batch.x0.dtype == getattr(X0, images)().dtype
    assert batch.eps.dtype == getattr(X0, expected)().dtype
    assert batch.cond["y"].tolist() == [0, 1, 2]
