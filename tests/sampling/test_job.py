"""Sampling jobs: kills, ranks and lost images change no bit."""

import pytest
import torch
from torch import nn

import etsdm
from etsdm.denoisers.denoiser import Denoiser
from etsdm.errors import PartError
from etsdm.samplers import DDIM, DDPM
from etsdm.sampling import SamplingTask, generate_missing


class Batched(nn.Module):
    """A network whose output depends on the size of its batch, so that a test sees which batches there were."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.5))
        self.sizes = []

    def forward(self, x, time):
        self.sizes.append(len(x))
        return (self.factor + 0.001 * len(x)) * x


class Memory(dict):
    """A store in memory."""

    def missing(self, indices):
        return [k for k in indices if k not in self]

    def write(self, indices, images):
        assert len(indices) == len(images)
        assert not set(indices) & set(self), "an image was written twice"
        self.update(zip(indices, images, strict=True))

    def stacked(self):
        return torch.stack([self[k] for k in sorted(self)])


@pytest.fixture
def task(tiny_spec):
    return SamplingTask(Denoiser(tiny_spec(target="v"), Batched()), DDPM(steps=3), seed=5)


@pytest.fixture
def whole(task):
    store = Memory()
    list(generate_missing(task, store, n=11, batch_size=4))
    return store.stacked()


def test_a_job_draws_what_sample_draws(task, whole):
    assert torch.equal(whole, etsdm.sample(task.denoiser, 11, sampler=DDPM(steps=3), seed=5, batch_size=4))


def test_progress_goes_up_to_the_total_by_steps(task):
    seen = [(progress.done, progress.total) for progress in generate_missing(task, Memory(), n=11, batch_size=4)]
    assert seen == [(k, 11) for k in (0, 1, 2, 4, 5, 6, 8, 9, 10, 11)]


@pytest.mark.parametrize("world", [2, 3, 5])
def test_several_ranks_draw_the_images_of_one_to_the_last_bit(task, whole, world):
    store, shares = Memory(), 0
    for rank in reversed(range(world)):
        *_, last = generate_missing(task, store, n=11, batch_size=4, rank=rank, world=world)
        assert last.done == last.total
        shares += last.total
    assert shares == 11
    assert torch.equal(store.stacked(), whole)


@pytest.mark.parametrize("steps", range(10))
def test_a_job_that_was_stopped_anywhere_goes_on_to_the_same_bits(task, whole, steps):
    store = Memory()
    work = generate_missing(task, store, n=11, batch_size=4)
    for _ in range(steps + 1):
        next(work)
    work.close()
    there = len(store)
    task.denoiser.backbone.sizes.clear()
    first, *_ = generate_missing(task, store, n=11, batch_size=4)
    assert first.done == there
    # Three calls for each image that is drawn again, none for those that were there.
    assert sum(task.denoiser.backbone.sizes) == 3 * (11 - there)
    assert torch.equal(store.stacked(), whole)


def test_images_that_are_lost_are_drawn_in_the_batches_they_were_in(task, whole):
    store = Memory()
    list(generate_missing(task, store, n=11, batch_size=4))
    for k in (2, 9, 10):
        del store[k]
    task.denoiser.backbone.sizes.clear()
    seen = [progress.done for progress in generate_missing(task, store, n=11, batch_size=4)]
    assert seen[0] == 8
    assert seen[-1] == 11
    assert task.denoiser.backbone.sizes == [4] * 3 + [3] * 3
    assert torch.equal(store.stacked(), whole)


def test_a_finished_job_asks_the_network_nothing(task):
    store = Memory()
    list(generate_missing(task, store, n=4, batch_size=4))
    task.denoiser.backbone.sizes.clear()
    assert [tuple(progress) for progress in generate_missing(task, store, n=4, batch_size=4)] == [(4, 4)]
    assert task.denoiser.backbone.sizes == []


def test_more_images_can_be_asked_for_later(task, whole):
    store = Memory()
    list(generate_missing(task, store, n=4, batch_size=4))
    seen = [progress.done for progress in generate_missing(task, store, n=11, batch_size=4)]
    assert seen[0] == 4
    assert torch.equal(store.stacked(), whole)


@pytest.mark.parametrize(("rank", "world"), [(2, 2), (-1, 3)])
def test_a_rank_outside_the_world_is_refused(task, rank, world):
    with pytest.raises(PartError, match=rf"^rank: {rank} .* {world} .*; give 0 to {world - 1}$"):
        next(generate_missing(task, Memory(), n=4, batch_size=2, rank=rank, world=world))


def test_conditioning_inputs_go_with_the_image(tiny_denoiser):
    denoiser = tiny_denoiser(target="v", backbone={"num_classes": 10})
    labels = torch.tensor([3, 1, 4, 1, 5])
    task = SamplingTask(denoiser, DDIM(steps=2), 0, lambda indices: {"y": labels[torch.tensor(indices)]})
    store = Memory()
    for rank in (0, 1):
        list(generate_missing(task, store, n=5, batch_size=2, rank=rank, world=2))
    assert torch.equal(store.stacked(), etsdm.sample(denoiser, 5, sampler=DDIM(steps=2), batch_size=2, y=labels))
