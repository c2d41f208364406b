import importlib.util
import math

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.utils.flop_counter import FlopCounterMode

from etsdm.backbones.kernels import Attention, attention, xformers_unavailable_reason

without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without CUDA")

SHAPES = [((2, 3, 16, 8), (2, 3, 16, 8)), ((1, 1, 1, 1), (1, 1, 1, 1)), ((3, 2, 5, 7), (3, 2, 11, 7))]


def drawn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def qkv(queries, keys, dtype=torch.float64):
    return drawn(*queries, seed=0, dtype=dtype), drawn(*keys, seed=1, dtype=dtype), drawn(*keys, seed=2, dtype=dtype)


def one_by_one(q, k, v):
    """The definition, one query at a time."""
    out = torch.empty(*q.shape[:-1], v.shape[-1], dtype=q.dtype)
    for index in torch.cartesian_prod(*(torch.arange(n) for n in q.shape[:-1])).reshape(-1, 3).tolist():
        b, h, i = index
        scores = (q[b, h, i] * k[b, h]).sum(1) / math.sqrt(q.shape[-1])
        weights = (scores - scores.max()).exp()
        out[b, h, i] = (weights[:, None] * v[b, h]).sum(0) / weights.sum()
    return out


@pytest.mark.parametrize("kernel", ["math", "sdpa", "auto"])
@pytest.mark.parametrize(("queries", "keys"), SHAPES)
def test_every_kernel_is_the_formula(queries, keys, kernel):
    q, k, v = qkv(queries, keys)
    assert torch.allclose(attention(q, k, v, kernel), one_by_one(q, k, v), atol=1e-12)


# Rounding errors of the output and of the gradients relative to their norm.
@pytest.mark.parametrize("kernel", ["math", "sdpa"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 1e-6), (torch.bfloat16, 5e-3)])
def test_kernels_agree_forward_and_backward_within_the_dtype(dtype, tolerance, kernel):
    inputs = [part.requires_grad_() for part in qkv((2, 3, 64, 16), (2, 3, 64, 16), dtype)]
    weights = drawn(2, 3, 64, 16, seed=3)
    out = attention(*inputs, kernel)
    assert out.dtype == dtype
    exact_inputs = [part.detach().double().requires_grad_() for part in inputs]
    exact = one_by_one(*(part.detach() for part in exact_inputs))
    assert (out.double() - exact).norm() < tolerance * exact.norm()
    gradients = torch.autograd.grad((out.double() * weights).sum(), inputs)
    reference = torch.autograd.grad((attention(*exact_inputs, "math") * weights).sum(), exact_inputs)
    for found, expected in zip(gradients, reference, strict=True):
        assert found.dtype == dtype
        assert (found.double() - expected).norm() < 2 * tolerance * expected.norm()


def test_large_scores_do_not_overflow():
    q, k, v = qkv((1, 1, 4, 2), (1, 1, 4, 2), torch.float32)
    for kernel in ("math", "sdpa"):
        out = attention(q * 1e4, k * 1e4, v, kernel)
        assert torch.allclose(out, v[:, :, (q @ k.mT).argmax(-1)[0, 0]], atol=1e-6)


def test_a_constant_value_is_given_back_whatever_the_scores():
    q, k, _ = qkv((2, 2, 6, 4), (2, 2, 6, 4))
    v = torch.ones_like(k) * 3
    for kernel in ("math", "sdpa", "auto"):
        assert torch.allclose(attention(q, k, v, kernel), v, atol=1e-14)


def central_difference(function, x, direction, step=1e-5):
    return (function(x + step * direction) - function(x - step * direction)) / (2 * step)


@pytest.mark.parametrize("kernel", ["auto", "sdpa", "math"])
def test_the_forward_derivative_is_that_of_finite_differences(kernel):
    q, k, v = qkv((2, 2, 5, 4), (2, 2, 5, 4))
    direction = drawn(2, 2, 5, 4, seed=4)

    def function(x):
        return attention(q + x, k - x, v * x, kernel)

    expected = central_difference(function, q, direction)
    out, tangent = torch.func.jvp(function, (q,), (direction,))
    assert torch.allclose(out, function(q), atol=1e-13)
    assert torch.allclose(tangent, expected, atol=1e-8)
    with forward_ad.dual_level():
        out, tangent = forward_ad.unpack_dual(function(forward_ad.make_dual(q, direction)))
    assert torch.allclose(out, function(q), atol=1e-13)
    assert torch.allclose(tangent, expected, atol=1e-8)


@pytest.mark.parametrize("kernel", ["auto", "sdpa"])
def test_forward_derivatives_can_be_mapped_and_differentiated_again(kernel):
    q, k, v = qkv((2, 1, 5, 4), (2, 1, 5, 4))

    def along(s):
        return attention(q * s, k, v, kernel).square().sum()

    def slope(s):
        return torch.func.jvp(along, (s,), (torch.ones_like(s),))[1]

    s = torch.tensor(0.7, dtype=torch.float64)
    second = torch.func.grad(slope)(s)
    assert second.item() == pytest.approx(central_difference(slope, s, 1.0).item(), rel=1e-6)
    several = torch.tensor([0.5, 0.7, 1.5], dtype=torch.float64)
    assert torch.allclose(torch.vmap(slope)(several), torch.stack([slope(s) for s in several]), atol=1e-12)


@pytest.mark.parametrize("kernel", ["auto", "sdpa"])
def test_forward_derivatives_are_noticed_inside_other_transforms(kernel):
    # Of forward_ad._current_level, which is private: torch.func.grad and vmap hide the tangents themselves.
    q, k, v = qkv((2, 1, 5, 4), (2, 1, 5, 4))

    def along(s):
        return attention(q * s, k, v, kernel).square().sum()

    s = torch.tensor(0.7, dtype=torch.float64)
    forward_over_reverse = torch.func.jvp(torch.func.grad(along), (s,), (torch.ones_like(s),))[1]
    assert forward_over_reverse.item() == pytest.approx(central_difference(torch.func.grad(along), s, 1.0).item(), rel=1e-6)
    _, over_vmap = torch.func.jvp(lambda s: torch.vmap(along)(s.expand(2)), (s,), (torch.ones_like(s),))
    assert over_vmap.tolist() == pytest.approx([central_difference(along, s, 1.0).item()] * 2, rel=1e-6)


def test_a_choice_is_back_once_no_forward_derivative_is_computed(monkeypatch):
    q, k, v = qkv((1, 1, 3, 4), (1, 1, 3, 4))
    torch.func.jvp(lambda x: attention(x, k, v), (q,), (q,))
    fused = []
    original = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", lambda *args: fused.append(1) or original(*args))
    torch.func.jvp(lambda x: attention(x, k, v), (q,), (q,))
    assert not fused
    attention(q, k, v)
    assert fused


@without_cuda
def test_auto_without_cuda_is_sdpa():
    q, k, v = qkv((2, 3, 16, 8), (2, 3, 16, 8), torch.float32)
    assert torch.equal(attention(q, k, v, "auto"), torch.nn.functional.scaled_dot_product_attention(q, k, v))


@without_cuda
def test_xformers_without_cuda_says_why_it_cannot_run():
    assert xformers_unavailable_reason() == "there is no CUDA device"
    q, k, v = qkv((1, 1, 2, 8), (1, 1, 2, 8))
    message = r"^attention: xformers cannot run here: there is no CUDA device; use sdpa or auto$"
    with pytest.raises(RuntimeError, match=message):
        attention(q, k, v, "xformers")
    # A forward derivative is taken by the formula, whatever is asked for.
    torch.func.jvp(lambda x: attention(x, k, v, "xformers"), (q,), (q,))


@pytest.mark.skipif(xformers_unavailable_reason() is not None, reason="xformers has no kernels here")
def test_xformers_agrees_with_sdpa():
    q, k, v = (part.cuda() for part in qkv((2, 4, 64, 64), (2, 4, 64, 64), torch.bfloat16))
    exact = attention(q.double(), k.double(), v.double(), "math")
    for kernel in ("xformers", "sdpa", "auto"):
        assert (attention(q, k, v, kernel).double() - exact).norm() < 5e-3 * exact.norm()


@pytest.mark.skipif(not torch.cuda.is_available() or importlib.util.find_spec("xformers") is not None, reason="needs CUDA alone")
def test_a_missing_xformers_is_named():
    assert xformers_unavailable_reason() == "xformers is not installed"


class Layer(Attention):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def forward(self, x):
        return self.attention(*self.qkv(x).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4).unbind(0))


@pytest.mark.parametrize("kernel", ["auto", "sdpa", "math"])
def test_a_layer_uses_its_kernel_in_one_graph(kernel):
    layer, x = Layer(), drawn(2, 5, 8, dtype=torch.float32)
    assert layer.kernel == "auto"
    layer.kernel = kernel
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x), layer(x))


def test_a_layer_has_no_keys_of_its_own_for_the_kernel():
    assert list(Layer().state_dict()) == ["qkv.weight", "qkv.bias"]


@pytest.mark.parametrize("kernel", ["auto", "sdpa", "math"])
def test_kernels_run_on_the_meta_device(kernel):
    q, k = torch.empty(2, 3, 16, 8, device="meta"), torch.empty(2, 3, 4, 8, device="meta")
    assert attention(q, k, k, kernel).shape == (2, 3, 16, 8)


def test_the_operator_for_shapes_saves_and_counts_as_a_fused_kernel():
    # torch.ops.aten._scaled_dot_product_efficient_attention is private.
    q, k = torch.empty(2, 3, 16, 8, device="meta", requires_grad=True), torch.empty(2, 3, 4, 8, device="meta")
    saved = []
    keep = torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor.shape) or tensor, lambda tensor: tensor)
    with keep, FlopCounterMode(display=False) as counter:
        out = attention(q, k, k, "sdpa")
    assert counter.get_total_flops() == 2 * 2 * (2 * 3 * 16 * 4 * 8)  # scores, and their sum over values
    assert {q.shape, k.shape, out.shape} <= set(saved)
    assert (2, 3, 16, 4) not in saved
