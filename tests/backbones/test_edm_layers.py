import mpmath
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.signal import convolve2d, correlate2d

from etsdm.backbones.edm_layers import ConvDownsample, FourierEmbedding, PositionalEmbedding, Resample, ResampledConv

TAPS = [(1, 1), (1, 3, 3, 1), (1, 2, 3, 4), (1, 5, 10, 10, 5, 1)]


def images(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_positional_frequencies_fall_from_one_to_ten_thousandth():
    c = [0.0, -1.7, 3.0, 500.5]
    cos, sin = PositionalEmbedding(8, intervals=7)(torch.tensor(c))
    for row, value in enumerate(c):
        phases = [mpmath.mpf(value) * mpmath.mpf(10) ** (mpmath.mpf(-4 * i) / 7) for i in range(8)]
        # A rounding error of 6e-8 of a frequency is 3e-5 of a phase of 500.
        assert cos[row].tolist() == pytest.approx([float(mpmath.cos(phase)) for phase in phases], abs=1e-4)
        assert sin[row].tolist() == pytest.approx([float(mpmath.sin(phase)) for phase in phases], abs=1e-4)


def test_one_more_interval_keeps_the_lowest_frequency_above_the_limit():
    # w_1 = 10000^(-1/2) = 0.01.
    _, sin = PositionalEmbedding(2, intervals=2)(torch.tensor([1.0]))
    assert sin[0].tolist() == pytest.approx([float(mpmath.sin(1)), float(mpmath.sin(0.01))], rel=1e-6)


def test_fourier_features_are_sinusoids_of_the_drawn_frequencies():
    torch.manual_seed(0)
    embedding = FourierEmbedding(4)
    cos, sin = embedding(torch.tensor([0.25, -1.5]))
    for row, c in enumerate((0.25, -1.5)):
        phases = [2 * mpmath.pi * mpmath.mpf(f) * c for f in embedding.freqs.tolist()]
        assert cos[row].tolist() == pytest.approx([float(mpmath.cos(phase)) for phase in phases], abs=1e-4)
        assert sin[row].tolist() == pytest.approx([float(mpmath.sin(phase)) for phase in phases], abs=1e-4)


def test_fourier_frequencies_have_standard_deviation_sixteen():
    torch.manual_seed(0)
    freqs = FourierEmbedding(20000).freqs
    # The standard error of the deviation is 16 / sqrt(40000) = 0.08, of the mean 16 / sqrt(20000) = 0.11.
    assert freqs.std().item() == pytest.approx(16, abs=0.35)
    assert freqs.mean().item() == pytest.approx(0, abs=0.5)


def test_fourier_frequencies_are_not_rounded_with_the_weights():
    embedding = FourierEmbedding(64)
    exact = embedding.freqs.clone()
    assert torch.equal(embedding.bfloat16().freqs, exact)
    assert torch.equal(embedding.double().freqs, exact.double())
    assert embedding.to("meta").freqs.device.type == "meta"


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64, torch.bfloat16])
def test_embeddings_are_float32_whatever_comes_in(dtype):
    for embedding in (PositionalEmbedding(4, 3), FourierEmbedding(4)):
        expected = embedding(torch.tensor([2.0, 3.0]))
        assert all(torch.equal(*pair) for pair in zip(embedding(torch.tensor([2, 3], dtype=dtype)), expected, strict=True))


def test_two_equal_taps_are_the_mean_of_four_and_the_nearest_neighbour():
    x = images(2, 3, 6, 8)
    assert torch.allclose(Resample("down", (1, 1))(x), F.avg_pool2d(x, 2), atol=1e-6)
    assert torch.allclose(Resample("up", (5, 5))(x), F.interpolate(x, scale_factor=2.0, mode="nearest"), atol=1e-6)


@pytest.mark.parametrize("taps", TAPS)
def test_resampling_is_a_filter_at_every_other_pixel_with_zeros_beyond_the_border(taps):
    x = images(2, 3, 6, 8)
    kernel = np.outer(taps, taps) / sum(taps) ** 2
    padding = len(taps) // 2 - 1
    down, up = Resample("down", taps)(x), Resample("up", taps)(x)
    for image, halved, doubled in zip(x.flatten(0, 1), down.flatten(0, 1), up.flatten(0, 1), strict=True):
        correlated = correlate2d(np.pad(image, padding), kernel, mode="valid")
        assert halved.numpy() == pytest.approx(correlated[::2, ::2], abs=1e-6)
        spread = np.zeros((11, 15))
        spread[::2, ::2] = image
        convolved = convolve2d(spread, 4 * kernel, mode="full")
        assert doubled.numpy() == pytest.approx(convolved[padding : padding + 12, padding : padding + 16], abs=1e-6)


@pytest.mark.parametrize("direction", ["down", "up"])
def test_resampled_conv_is_resampling_then_the_convolution(direction):
    conv = ResampledConv(3, 4, 3, direction, (1, 3, 3, 1))
    x = images(2, 3, 8, 8)
    expected = F.conv2d(Resample(direction, (1, 3, 3, 1))(x), conv.weight, conv.bias, padding=1)
    assert torch.allclose(conv(x), expected, atol=1e-6)


def test_conv_downsample_filters_the_convolution_of_the_padded_image():
    conv = ConvDownsample(2, 3, (1, 3, 3, 1))
    x = images(1, 2, 8, 8)
    kernel = np.outer((1, 3, 3, 1), (1, 3, 3, 1)) / 64
    for channel, out in enumerate(conv(x)[0].detach()):
        weight = conv.weight[channel].detach().numpy()
        # Zeros around the image, one for the convolution and one for the filter.
        wide = sum(correlate2d(np.pad(image, 2), w, mode="valid") for image, w in zip(x[0].numpy(), weight, strict=True))
        expected = correlate2d(wide, kernel, mode="valid")[::2, ::2] + conv.bias[channel].item()
        assert out.numpy() == pytest.approx(expected, abs=1e-6)


def test_state_dicts_hold_the_filter_under_its_own_name():
    conv = ResampledConv(3, 4, 1, "up", (1, 3, 3, 1))
    assert list(conv.state_dict()) == ["weight", "bias", "resample_filter"]
    expected = torch.tensor([1.0, 3, 3, 1])
    assert torch.equal(conv.resample_filter[0, 0], expected[:, None] * expected / 64)
    assert list(Resample("up", (1, 1)).state_dict()) == ["resample_filter"]
