"""Python calls with names, mappings, paths as text, and objects that are no whole denoiser."""

import pytest
import torch

import etsdm
from etsdm.analysis import lipschitz_curve, log_likelihood
from etsdm.checkpoints import latest_checkpoint, read_checkpoint
from etsdm.denoisers.protocol import MEMBERS, DenoiserLike
from etsdm.denoisers.wrappers import DenoiserWrapper
from etsdm.errors import CheckpointError, PartError, RecipeError, RegistryError
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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: d.predict(X, [1, 2]), r"^t: found \[1, 2\]; give a number, or a tensor"),
        (lambda d: d.predict(X, "5"), r"^t: found '5'; give a number, or a tensor"),
        (lambda d: d.predict(X, None), "^t: found None; give a number, or a tensor"),
        (lambda d: d.predict(X, True), "^t: found True; give a number, or a tensor"),
        (lambda d: d.predict(X, torch.tensor([1, 2, 3])), r"^t: has shape \(3,\) for 2 images; give a time for each"),
        (lambda d: d.predict(X, torch.ones(2, 1)), r"^t: has shape \(2, 1\) for 2 images; give a time for each"),
        (lambda d: d.predict(X.numpy(), 5), "^x: found a ndarray; give a tensor of noisy images"),
        (lambda d: etsdm.sample(d, 1.5), "^n: found 1.5; give an integer"),
        (lambda d: etsdm.sample(d, "3"), "^n: found '3'; give an integer"),
        (lambda d: etsdm.sample(d, True), "^n: found True; give an integer"),
        (lambda d: etsdm.sample(d, 2, batch_size=0), "^batch_size: 0 is too few; give 1 or more"),
        (lambda d: etsdm.sample(d, 2, y=torch.zeros(3)), "^y: 3 rows for 2 images; give one for each"),
        (lambda d: lipschitz_curve(d, X.numpy(), [5.0]), "^images: found a ndarray; give a tensor"),
        (lambda d: lipschitz_curve(d, None, [5.0]), "^images: found a NoneType; give a tensor"),
        (lambda d: lipschitz_curve(d, X * float("nan"), [5.0]), "^images: hold values that are not finite"),
        (lambda d: img2img(d, X / 0, start=300), "^images: hold values that are not finite"),
        (lambda d: log_likelihood(d, [1.0]), "^images: found a list; give a tensor"),
    ],
)
def test_arguments_of_another_kind_are_refused_by_name(call, message):
    with pytest.raises(PartError, match=message):
        call(ExactDenoiser(mixture("m1"), Linear()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None,), "^recipe: found None; give a path, a name, a mapping or a Recipe"),
        (([1],), r"^recipe: found \[1\]; give a path, a name, a mapping or a Recipe"),
        (("digits", 3), "^override 3: is no text; write key=value"),
        (("digits", {"seeds": [1]}), "^override {'seeds': .*: is no text; write key=value"),
    ],
)
def test_a_recipe_of_another_kind_is_refused(arguments, message):
    with pytest.raises(RecipeError, match=message):
        etsdm.build(*arguments)


@pytest.mark.parametrize("device", ["tpu9", "cuda:99", 1.5], ids=str)
def test_a_device_that_is_not_there_is_refused(tiny_denoiser, tmp_path, device):
    etsdm.save(tiny_denoiser(), tmp_path / "saved")
    with pytest.raises(PartError, match=f"^device: '{device}': .*; give cpu"):
        etsdm.load(tmp_path / "saved", device)
