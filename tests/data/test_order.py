import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etsdm.data import SampleOrder


@given(st.integers(1, 30), st.integers(0, 5), st.integers(0, 3))
def test_each_image_comes_once_an_epoch(n, seed, epoch):
    order = SampleOrder(n, seed).indices(epoch * n, n)
    assert order.dtype == torch.int64
    assert sorted(order.tolist()) == list(range(n))


@given(st.integers(1, 30), st.lists(st.integers(1, 50), max_size=6))
def test_the_order_does_not_depend_on_where_batches_end(n, sizes):
    order, total = SampleOrder(n, 0), sum(sizes)
    seen, found = 0, []
    for size in sizes:
        found += order.indices(seen, size).tolist()
        seen += size
    assert found == [SampleOrder(n, 0).indices(i, 1).item() for i in range(total)]


def test_a_batch_runs_over_the_end_of_an_epoch():
    whole = SampleOrder(10, 0).indices(0, 30)
    assert torch.equal(SampleOrder(10, 0).indices(7, 16), whole[7:23])


def test_going_back_gives_the_same_images():
    order = SampleOrder(10, 0)
    first = order.indices(3, 5)
    order.indices(25, 5)
    assert torch.equal(order.indices(3, 5), first)


@pytest.mark.parametrize(("seed", "start"), [(0, 100), (1, 0)], ids=["another epoch", "another seed"])
def test_epochs_and_seeds_have_orders_of_their_own(seed, start):
    assert not torch.equal(SampleOrder(100, seed).indices(start, 100), SampleOrder(100, 0).indices(0, 100))


def test_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    SampleOrder(10, 0).indices(0, 5)
    assert torch.equal(torch.get_rng_state(), state)
