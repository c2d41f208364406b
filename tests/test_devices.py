"""The device of a process, on machines with no, one and several GPUs."""

import pytest
import torch

from etsdm.devices import resolve_device
from etsdm.errors import RecipeError


@pytest.fixture
def gpus(monkeypatch):
    """Makes torch find a number of GPUs, and torchrun say a rank."""

    def pretend(count, local_rank=None):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.delenv("LOCAL_RANK", raising=False)
        if local_rank is not None:
            monkeypatch.setenv("LOCAL_RANK", str(local_rank))

    return pretend


@pytest.mark.parametrize(
    ("count", "local_rank", "wanted", "expected"),
    [
        (0, None, "auto", "cpu"),
        (0, 1, "auto", "cpu"),
        (2, None, "auto", "cuda:0"),
        (2, None, "cuda", "cuda:0"),
        (2, None, "cpu", "cpu"),
        (4, 3, "auto", "cuda:3"),
        # A launcher that gives each of four processes one GPU to see: it is number 0 to all of them.
        (1, 3, "auto", "cuda:0"),
    ],
)
def test_a_process_takes_its_gpu_where_there_is_one(gpus, count, local_rank, wanted, expected):
    gpus(count, local_rank)
    assert resolve_device(wanted) == torch.device(expected)


def test_a_gpu_that_is_not_there_is_refused(gpus):
    gpus(0)
    with pytest.raises(RecipeError, match=r"^compute.device: .*; give auto or cpu$"):
        resolve_device("cuda")
