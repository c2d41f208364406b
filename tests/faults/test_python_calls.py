"""Python calls with names, mappings, paths as text, and objects that are no whole denoiser."""

import pytest
import torch

import etsdm
from etsdm.analysis import lipschitz_curve, log_likelihood
from etsdm.checkpoints import latest_checkpoint, read_checkpoint
from etsdm.denoisers.protocol import MEMBERS, DenoiserLike
from etsdm.denoisers.wrappers import DenoiserWrapper
from etsdm.errors import CheckpointError, PartError, RegistryError
from etsdm.samplers import DDIM
from etsdm.sampling import SampledModel, TensorStore, img2img, invert
from etsdm.schedules import Flow, Linear
from etsdm.theory import ExactDenoiser, mixture

X = torch.zeros(2, 1)
ENTRIES = {
    "sample": lambda d: etsdm.sample(d, 2),
    "img2img": lambda d: img2img(d, X, start=300),
    "invert": lambda d: invert(d, X),
    "lipschitz": lambda d: lipschitz_curve(d, X, [5.0]),
    "likelihood": lambda d: log_likelihood(d, X),
    "wrapper": DenoiserWrapper,
}


class Incomplete:
    """All but num_classes and decode."""

    def __init__(self):
        inner = ExactDenoiser(mixture("m1"), Linear())
        for name in set(MEMBERS) - {"num_classes", "decode"}:
            setattr(self, name, getattr(inner, name))


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_an_object_that_is_no_whole_denoiser_is_refused_by_what_it_lacks(entry):
    with pytest.raises(PartError, match=r"^denoiser: found a Incomplete, which lacks num_classes, decode; give a denoiser"):
        entry(Incomplete())
    with pytest.raises(PartError, match=r"^denoiser: found the class ExactDenoiser; give a denoiser"):
        entry(ExactDenoiser)
    with pytest.raises(PartError, match=r"^denoiser: found a str, which lacks schedule, .*"):
        entry("runs/digits")


def test_the_members_are_those_of_the_protocol():
    assert set(MEMBERS) == DenoiserLike.__protocol_attrs__ if hasattr(DenoiserLike, "__protocol_attrs__") else True
    wrapped = DenoiserWrapper(ExactDenoiser(mixture("m1"), Linear()))
    assert isinstance(wrapped, DenoiserLike)
    assert all(hasattr(wrapped, name) for name in MEMBERS)


def test_parts_by_name_and_as_mappings():
    by_name = ExactDenoiser(mixture("m1"), "flow", target={"type": "v"}, condition_map={"type": "e-tsdm", "t_tilde": 0.1})
    assert (by_name.schedule, by_name.target.type_name, by_name.condition_map.t_tilde) == (Flow(), "v", 0.1)
    assert DDIM().plan("linear") == DDIM().plan({"type": "linear"}) == DDIM().plan(Linear())
    with pytest.raises(RegistryError, match="did you mean 'linear'"):
        DDIM().plan("liner")
    with pytest.raises(RegistryError, match="t_tilde"):
        ExactDenoiser(mixture("m1"), "linear", condition_map={"type": "e-tsdm", "t_tilde": -1})


def test_paths_as_text(tiny_denoiser, tmp_path):
    folder = str(etsdm.save(tiny_denoiser(), str(tmp_path / "one")))
    assert read_checkpoint(folder).denoiser.spec == etsdm.load(folder).spec
    assert latest_checkpoint(folder) is None
    model = SampledModel.from_checkpoint(folder).with_condition_map({"type": "e-tsdm", "n": 4})
    assert model.trained.condition_map.n == 4
    assert TensorStore(str(tmp_path / "tensors"), "0").missing([0]) == [0]
    with pytest.raises(CheckpointError, match="nowhere"):
        read_checkpoint(str(tmp_path / "nowhere"))
