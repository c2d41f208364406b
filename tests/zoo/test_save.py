"""`etsdm.save` and back by `etsdm.load`."""

import pytest
import torch
from torch import nn

import etsdm
from etsdm.backbones import External
from etsdm.denoisers.wrappers import FixedLabels
from etsdm.errors import CheckpointError, IntegrityError
from etsdm.schedules import Linear
from etsdm.theory import ExactDenoiser, mixture


def test_a_saved_denoiser_comes_back(tiny_denoiser, tmp_path):
    denoiser = tiny_denoiser(target="v", condition_map="e-tsdm")
    folder = etsdm.save(denoiser, str(tmp_path / "new" / "folder"))
    back = etsdm.load(folder)
    assert back.spec == denoiser.spec
    assert torch.equal(etsdm.sample(back, 2, steps=3), etsdm.sample(denoiser, 2, steps=3))


def test_so_do_a_first_stage_half_precision_and_a_given_network(latent_denoiser, tiny_denoiser, tmp_path):
    back = etsdm.load(etsdm.save(latent_denoiser, tmp_path / "latent"))
    assert all(torch.equal(value, back.state_dict()[name]) for name, value in latent_denoiser.state_dict().items())
    half = tiny_denoiser().half()
    back = etsdm.load(etsdm.save(half, tmp_path / "half"))
    assert all(torch.equal(value.float(), back.state_dict()[name]) for name, value in half.state_dict().items())

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(0.3))

        def forward(self, x, time):
            return self.scale * x

    given = etsdm.DenoiserSpec(schedule="linear", backbone=External(Network(), shape=(1, 8, 8))).build()
    given.backbone.network.scale.data.fill_(0.7)
    back = etsdm.load(etsdm.save(given, tmp_path / "external"), backbone=Network())
    assert back.backbone.network.scale.item() == pytest.approx(0.7)


def test_a_folder_is_not_overwritten_and_what_has_no_weights_is_refused(tiny_denoiser, tmp_path):
    labelled = tiny_denoiser(backbone={"num_classes": 3})
    etsdm.save(labelled, tmp_path / "one")
    with pytest.raises(IntegrityError, match="one"):
        etsdm.save(labelled, tmp_path / "one")
    with pytest.raises(CheckpointError, match=r"^found a FixedLabels, .*; give an etsdm\.Denoiser; save the denoiser inside$"):
        etsdm.save(FixedLabels(labelled, 1), tmp_path / "two")
    with pytest.raises(CheckpointError, match=r"^found a ExactDenoiser"):
        etsdm.save(ExactDenoiser(mixture("m1"), Linear()), tmp_path / "two")
    assert not (tmp_path / "two").exists()
