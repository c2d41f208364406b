"""`diagnose`: the images it takes, its record and its page."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from PIL import Image

import etsdm
from etsdm.analysis.diagnosis import share_of_updates
from etsdm.data import Digits, ImageFolder
from etsdm.errors import CheckpointError, DataError, IntegrityError, PartError, RegistryError, StorageError
from etsdm.interop import open_model
from etsdm.losses import LogNormal
from etsdm.report.diagnosis import diagnose
from etsdm.report.diagnosis.images import images_of
from etsdm.theory import ExactDenoiser, mixture

TINY = Path(__file__).parents[1] / "recipes" / "tiny.yaml"
SHORT = {"type": "linear", "timesteps": 50}
FEW = {"images": 3, "fine": 1, "coarse": 2, "batch_size": 2}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of the tiny recipe's runs, on a schedule of 50 timesteps, with its own distribution of training times."""
    folder = tmp_path_factory.mktemp("trained")
    parts = ["model.schedule={type: linear, timesteps: 50}", "model.condition_map={type: e-tsdm, t_tilde: 10, n: 5}"]
    experiment = etsdm.build(TINY, *parts, "training.time_sampler=log-normal", out=folder / "runs")
    experiment.train()
    return experiment.folder.path


@pytest.fixture(scope="module")
def exact():
    return diagnose(ExactDenoiser(mixture("m2"), "linear", condition_map="e-tsdm"), images=20, fine=2, coarse=2)


def finite(value):
    """Whether all numbers of JSON values are finite."""
    return json.loads(json.dumps(value, allow_nan=False)) == value


def test_a_run_is_measured_on_its_held_out_images(trained):
    found = diagnose(trained / "baseline", **FEW)
    assert torch.equal(found.images.x0, Digits().open("test").batch(range(3)).pixels)
    record = found.record()
    assert finite(record)
    assert record["images"]["source"] == "3 held-out images of data set 'digits'"
    assert record["model"]["label"] == str(trained / "baseline")
    share = share_of_updates(LogNormal(), found.measured.schedule, 5.0)
    assert record["training"]["share"] == share
    assert record["training"]["images_there"] == share * 320
    assert record["lipschitz"]["t"] == found.measured.lipschitz.t.tolist()
    assert record["lipschitz"]["shared"]["means"]["inside"] in (0, None)
    assert record["advice"][0]["topic"] == "time-awareness"


@pytest.mark.parametrize("data", ["digits", None])
def test_the_progress_counts_what_passes_through_the_network(tiny_denoiser, data):
    seen = []
    diagnose(tiny_denoiser(schedule=SHORT), data, progress=lambda *counts: seen.append(counts), **FEW)
    assert {total for _, total in seen} == {seen[-1][0]}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_model_without_a_run_is_measured_on_its_own_samples(trained, tmp_path):
    folder = etsdm.save(open_model(trained / "e-tsdm"), tmp_path / "model")
    found = diagnose(folder, **FEW)
    assert (found.images.facts["kind"], found.trained_images) == ("own samples", None)
    assert torch.allclose(found.images.x0, etsdm.sample(open_model(folder), 3, steps=50), atol=1e-5)
    assert "lower than on real ones" in found.record()["images"]["meaning"]


def test_data_is_a_folder_a_data_set_its_name_or_a_tensor(tiny_denoiser, tmp_path):
    denoiser = tiny_denoiser(schedule=SHORT)
    for k in range(4):
        Image.new("L", (12, 12), 60 * k).save(tmp_path / f"{k}.png")
    expected = ImageFolder(path=str(tmp_path), image_size=8, channels=1, held_out=0).open("train").batch(range(3)).pixels
    named = {"type": "image-folder", "path": str(tmp_path), "image_size": 8, "channels": 1, "held_out": 0}
    for data in (tmp_path, str(tmp_path), named, expected):
        assert torch.equal(images_of(denoiser, data, 3).x0, expected)
    assert "held-out" in images_of(denoiser, "digits", 3).source


def test_classes_come_with_the_images(tiny_denoiser):
    denoiser = tiny_denoiser(schedule=SHORT, backbone={"num_classes": 10})
    found = diagnose(denoiser, "digits", **FEW)
    assert torch.equal(found.images.cond["y"], Digits().open("test").batch(range(3)).labels)
    assert images_of(denoiser, None, 3).cond["y"].tolist() == [0, 1, 2]
    assert images_of(denoiser, torch.zeros(3, 1, 8, 8), 3, cond={"y": torch.tensor([7])}).cond["y"].tolist() == [7, 7, 7]


def test_latents_are_measured_of_a_latent_denoiser(latent_denoiser, tmp_path):
    for k in range(2):
        Image.new("L", (16, 16), 60 * k).save(tmp_path / f"{k}.png")
    assert images_of(latent_denoiser, tmp_path, 3).x0.shape == (2, *latent_denoiser.shape)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (torch.zeros(2, 1, 9, 9), PartError, r"^data: found .* \(2, 1, 9, 9\); give \(N, 1, 8, 8\)"),
        (torch.zeros(0, 1, 8, 8), PartError, r"^data: .*; give \(N, 1, 8, 8\) with N of 1 or more$"),
        ("digitz", RegistryError, r"digitz.*digits"),
        ({"type": "image-folder", "path": "nowhere", "image_size": 8, "channels": 1}, DataError, r"nowhere is no folder"),
    ],
)
def test_data_that_do_not_fit_are_refused(tiny_denoiser, data, error, message):
    with pytest.raises(error, match=message):
        images_of(tiny_denoiser(schedule=SHORT), data, 3)


def test_an_exact_denoiser_takes_no_data_set():
    with pytest.raises(PartError, match=r"^data: a ExactDenoiser .*; give a tensor$"):
        images_of(ExactDenoiser(mixture("m1"), "linear"), "digits", 3)


def test_wrong_arguments_and_models_are_refused(tiny_denoiser, trained, tmp_path):
    with pytest.raises(PartError, match=r"^images: 0 .*; give 1 or more$"):
        diagnose(tiny_denoiser(schedule=SHORT), images=0)
    with pytest.raises(PartError, match=r"^cond\.y: found 2 rows for 3 images; give one"):
        images_of(tiny_denoiser(schedule=SHORT, backbone={"num_classes": 10}), None, 3, cond={"y": torch.tensor([0, 1])})
    with pytest.raises(CheckpointError, match=r"missing: is no folder; give"):
        diagnose(tmp_path / "missing")
    folder = etsdm.save(open_model(trained / "baseline"), tmp_path / "model")
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(IntegrityError, match=re.escape(str(weights))):
        diagnose(folder, **FEW)


def test_samples_that_are_not_finite_need_data(tiny_denoiser):
    denoiser = tiny_denoiser(schedule=SHORT)
    next(denoiser.parameters()).data.fill_(torch.nan)
    with pytest.raises(PartError, match=r"^data: is needed, .*; give a data set or a folder of images$"):
        images_of(denoiser, None, 3)


def test_one_image_and_half_precision_have_a_record_without_nan(tiny_denoiser):
    record = diagnose(tiny_denoiser(schedule=SHORT).half(), torch.zeros(1, 1, 8, 8), fine=1, coarse=1).record()
    assert finite(record)
    assert record["model"]["dtype"] == "float16"
    assert set(record["lipschitz"]["se"]) == {None, 0.0} or set(record["lipschitz"]["se"]) == {None}


class Page(HTMLParser):
    """Text, tags that were left open, and addresses of a page."""

    def __init__(self, text):
        super().__init__()
        self.words, self.open, self.addresses = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_has_advice_numbers_and_figures_and_needs_no_network(exact, tmp_path):
    path = exact.write(tmp_path / "deep" / "page.html")
    page = Page(path.read_text())
    assert page.open == []
    text = "".join(page.words)
    for one in exact.advice:
        assert one.finding in text
        assert one.certainty in text
    assert f"{exact.measured.awareness.value:.3g}" in text
    assert len(page.addresses) == 6  # K, K with x changing, and loss, near t = 0 and whole
    assert all(address.startswith("data:image/svg+xml;base64,") for address in page.addresses)
    assert "nan" not in text.lower().split()


def test_labels_are_escaped_and_the_page_is_the_same_every_time(exact, tmp_path):
    renamed = exact._replace(label="<script>alert(1)</script>")
    first, second = (renamed.write(tmp_path / name).read_text() for name in ("a.html", "b.html"))
    assert first == second
    assert "<script>" not in first


def test_a_page_that_cannot_be_written_leaves_nothing(exact, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="is a file where a folder is needed"):
        exact.write(tmp_path / "file" / "page.html")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
