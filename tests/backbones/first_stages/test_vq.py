import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etsdm.backbones.first_stages.vq import Codebook
from etsdm.randomness import generator, seeded_global_rng
from etsdm.registry import first_stages


def codebook(rows):
    book = Codebook(len(rows), len(rows[0]))
    with torch.no_grad():
        book.embedding.weight.copy_(torch.tensor(rows))
    return book


def pixels(*rows):
    """Latents of one row of pixels, (1, C, 1, n)."""
    return torch.tensor(rows).T[None, :, None]


def network(**changes):
    fields = {"resolution": 8, "in_channels": 1, "out_ch": 1, "ch": 8, "ch_mult": (1, 2), "num_res_blocks": 1, "attn_resolutions": ()}
    with seeded_global_rng(0, "test/weights"):
        return first_stages.create("vq", **fields, z_channels=3, n_embed=6, norm_groups=4, **changes).build().eval()


def test_each_pixel_gets_the_nearest_entry():
    book = codebook([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    z = pixels([1.9, 0.0], [2.1, 0.0], [-5.0, 1.0], [1.0, 3.0])
    assert book.codes(z).tolist() == [[[0, 1, 0, 2]]]
    assert torch.allclose(book(z), pixels([0.0, 0.0], [4.0, 0.0], [0.0, 0.0], [0.0, 4.0]), atol=1e-6)


@given(st.integers(0, 2**31), st.sampled_from([(1, 3), (7, 1), (50, 4)]))
def test_codes_are_those_of_the_distance(seed, size):
    draws = generator(seed, "test/codebook")
    entries = torch.randn(size, generator=draws, dtype=torch.float64)
    z = torch.randn(2, size[1], 3, 5, generator=draws, dtype=torch.float64)
    book = codebook([[0.0] * size[1]] * size[0]).double()
    with torch.no_grad():
        book.embedding.weight.copy_(entries)
    distances = (z.permute(0, 2, 3, 1)[..., None, :] - entries).norm(dim=-1)
    assert torch.equal(book.codes(z), distances.argmin(-1))


@pytest.mark.parametrize("autocast", [False, True])
def test_close_entries_are_told_apart_in_bfloat16(autocast):
    # 1 and 1 + 2^-7 are neighbours in bfloat16; their squares and products are not.
    book = codebook([[1.0, 1.0], [1.0078125, 1.0]])
    z = pixels([1.0078125, 1.0], [1.0, 1.0])
    if not autocast:
        book, z = book.bfloat16(), z.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        assert book.codes(z).tolist() == [[[1, 0]]]


def test_the_gradient_passes_straight_through():
    z = pixels([1.9, 0.0], [2.1, 0.0]).requires_grad_()
    book = codebook([[0.0, 0.0], [4.0, 0.0]])
    (book(z) * torch.tensor([3.0, 5.0])).sum().backward()
    assert torch.equal(z.grad, torch.tensor([3.0, 5.0]).expand(1, 2, 1, 2))
    assert book.embedding.weight.grad is None


def test_fresh_entries_lie_within_one_over_their_number():
    with seeded_global_rng(0, "test/weights"):
        weight = Codebook(50, 40).embedding.weight
    assert 0.019 < weight.abs().max() <= 0.02


def test_codes_take_the_scale_factor_off():
    plain, scaled = network(), network(scale_factor=0.125)
    z = 0.2 * torch.randn(1, 3, 4, 4, generator=generator(0, "test/latents"))
    assert len(plain.codes(z).unique()) > 1
    assert torch.equal(scaled.codes(0.125 * z), plain.codes(z))


def test_quantisation_belongs_to_decoding():
    built = network()
    z = built.encode(torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8))
    assert torch.allclose(built.decode(z), built.decode_codes(built.codes(z)), atol=1e-5)
    assert torch.allclose(built.decode(built.quantize(z)), built.decode(z), atol=1e-5)
    assert not torch.allclose(built.decode(z, force_not_quantize=True), built.decode(z), atol=1e-3)


def test_encoding_draws_nothing():
    built, x = network(), torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)
    assert torch.equal(built.encode(x, generator=generator(0, "test/posterior")), built.encode(x))


def test_codes_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"^codes .* \(16,\); give \(batch, height, width\)$"):
        network().decode_codes(torch.zeros(16, dtype=torch.long))
