import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etsdm.randomness import SampleNoise, generator, per_sample_normal, permutation, seeded_global_rng, stream_seed

SEEDS = st.integers(0, 2**40)
NAMES = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)
STREAMS = st.tuples(SEEDS, NAMES, SEEDS)


def draw(*stream):
    return torch.randn(8, generator=generator(*stream))


def test_the_seed_of_a_stream_is_a_hash_of_seed_name_and_index():
    # printf '0\x1fnoise\x1f0' | b2sum -l 64, its bytes read as a little-endian number and halved (coreutils).
    assert stream_seed(0, "noise") == int.from_bytes(bytes.fromhex("043b6b57fd531442"), "little") // 2
    assert stream_seed(7, "training/noise", 51200) == int.from_bytes(bytes.fromhex("7c5822ceea04b567"), "little") // 2


@given(STREAMS, STREAMS)
def test_streams_differ_by_seed_name_and_index(one, other):
    assert 0 <= stream_seed(*one) < 2**63
    assert (stream_seed(*one) == stream_seed(*other)) == (one == other)


@pytest.mark.parametrize("other", [(1, "a", 0), (0, "b", 0), (0, "a", 1)])
def test_another_stream_gives_other_numbers(other):
    assert not torch.equal(draw(0, "a", 0), draw(*other))


def test_digits_do_not_move_between_the_name_and_the_index():
    assert stream_seed(0, "a", 11) != stream_seed(0, "a1", 1)
    assert stream_seed(1, "0", 0) != stream_seed(10, "", 0)


def test_a_stream_starts_anew_whatever_was_drawn_before():
    first = draw(3, "a", 5)
    torch.rand(7)
    draw(3, "a", 6)
    assert torch.equal(draw(3, "a", 5), first)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=6), st.sampled_from([(), (3,), (1, 8, 8)]))
def test_a_sample_alone_equals_itself_in_a_batch(indices, shape):
    batch = per_sample_normal(0, "a", indices, shape)
    assert batch.shape == (len(indices), *shape)
    assert batch.dtype == torch.float32
    for row, index in zip(batch, indices, strict=True):
        assert torch.equal(row, per_sample_normal(0, "a", [index], shape)[0])


def test_successive_draws_go_on_for_each_sample_alone():
    together, alone = SampleNoise(0, "a", [4, 9, 2]), SampleNoise(0, "a", [9])
    draws = [(together.draw((1, 4)), alone.draw((1, 4))) for _ in range(3)]
    assert all(torch.equal(batch[1], one[0]) for batch, one in draws)
    assert not torch.equal(draws[0][0], draws[1][0])


def test_noise_is_standard_normal():
    noise = per_sample_normal(0, "a", range(64), (1, 32, 32)).double()
    # Four standard errors of the mean and of the variance of N = 65,536 normal numbers: 4 / sqrt(N) and 4 sqrt(2 / N).
    assert abs(noise.mean()) < 4 / 256
    assert abs(noise.var() - 1) < 4 * 2**0.5 / 256


@given(SEEDS, st.integers(0, 100), st.integers(0, 50))
def test_a_permutation_holds_every_index_once(seed, index, n):
    order = permutation(seed, "order", index, n)
    assert order.dtype == torch.int64
    assert sorted(order.tolist()) == list(range(n))
    assert torch.equal(order, permutation(seed, "order", index, n))


def test_permutations_of_two_epochs_differ():
    assert not torch.equal(permutation(0, "order", 0, 50), permutation(0, "order", 1, 50))


def test_the_global_generator_starts_at_the_named_stream():
    with seeded_global_rng(0, "a", 2):
        inside = torch.randn(8)
    assert torch.equal(inside, draw(0, "a", 2))


def test_the_global_generator_is_restored():
    state = torch.get_rng_state()
    with seeded_global_rng(0, "a"):
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_global_generator_is_restored_after_an_error():
    state = torch.get_rng_state()
    with pytest.raises(KeyError), seeded_global_rng(0, "a"):
        raise KeyError(torch.rand(3))
    assert torch.equal(torch.get_rng_state(), state)


def test_on_the_cpu_no_gpu_is_initialised(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("get_rng_state", "set_rng_state", "manual_seed", "manual_seed_all"):
        monkeypatch.setattr(torch.cuda, name, lambda *args, **kwargs: pytest.fail("a GPU is asked for its generator"))
    with seeded_global_rng(0, "a", 2):
        inside = torch.randn(8)
    assert torch.equal(inside, draw(0, "a", 2))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_its_global_generator_starts_at_the_stream_and_is_restored():
    before = torch.cuda.get_rng_state()
    with seeded_global_rng(0, "a", 2, "cuda"):
        inside = torch.randn(8, device="cuda")
        on_the_cpu = torch.randn(8)
    assert torch.equal(inside, torch.randn(8, device="cuda", generator=generator(0, "a", 2, "cuda")))
    assert torch.equal(on_the_cpu, draw(0, "a", 2))
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_nothing_here_touches_the_global_generator():
    state = torch.get_rng_state()
    per_sample_normal(0, "a", [1, 2], (3,))
    permutation(0, "a", 0, 9)
    generator(0, "a")
    assert torch.equal(torch.get_rng_state(), state)
