"""`generate_folder` from Python: files, exports, ranks and interruptions."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import etsdm
from etsdm.errors import IntegrityError, PartError
from etsdm.samplers import DDIM
from etsdm.sampling import SampledModel, SamplingTask, generate_folder
from etsdm.storage.files import sha256_of


@pytest.fixture(scope="module")
def model(tiny_denoiser):
    return SampledModel.of(tiny_denoiser(target="v", backbone={"num_classes": 3}), sampler=DDIM(steps=3))


def contents(folder):
    return {file.name: file.read_bytes() for file in (folder / "images").iterdir()}


def test_the_folder_holds_the_images_of_sample_with_their_protocol(model, tmp_path):
    task = model.task(seed=4, labels=[2, 0])
    result = generate_folder(task, tmp_path, n=5, batch_size=2, exports=["zip", "npz", "gif"])
    expected = etsdm.sample(model.trained, 5, sampler=DDIM(steps=3), seed=4, batch_size=2, y=torch.tensor([2, 0, 2, 0, 2]))
    pixels = ((expected[:, 0] + 1) * 127.5).round().byte().numpy()
    assert (result.n, result.share, result.generated) == (5, 5, 5)
    assert [path.name for path in result.files] == ["images", "grid.png", "trajectory.gif", "samples.npz", "samples.zip"]
    assert all(path.exists() for path in result.files)
    with np.load(tmp_path / "samples.npz") as archive:
        assert np.array_equal(archive["arr_0"][..., 0], pixels)
        assert archive["arr_1"].tolist() == [2, 0, 2, 0, 2]
    picture = Image.open(tmp_path / "images/000003.png")
    assert np.array_equal(np.asarray(picture), pixels[3])
    assert (picture.text["index"], picture.text["seed"], picture.text["label"]) == ("3", "4", "0")
    assert json.loads(picture.text["protocol"]) == task.protocol
    job = json.loads((tmp_path / "job.json").read_text())
    assert job["files"] == {path.name: sha256_of(path) for path in result.files[2:]}
    assert (job["protocol_digest"], job["images"], job["protocol"]) == (result.protocol_digest, 5, task.protocol)


def test_progress_is_reported_from_the_images_found_on(model, tmp_path):
    seen = []
    generate_folder(model.task(), tmp_path, n=2, batch_size=2, on_progress=seen.append)
    assert [tuple(progress) for progress in seen] == [(0, 2), (0, 2), (1, 2), (2, 2)]
    seen.clear()
    result = generate_folder(model.task(), tmp_path, n=4, batch_size=2, on_progress=seen.append)
    assert tuple(seen[0]) == (2, 4)
    assert (result.generated, len(result.files)) == (2, 2)


def test_an_interrupted_call_is_continued_to_the_same_bytes(model, tmp_path):
    def stop(progress):
        if progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_folder(model.task(), tmp_path / "stopped", n=5, batch_size=2, on_progress=stop)
    assert not (tmp_path / "stopped/grid.png").exists()
    assert generate_folder(model.task(), tmp_path / "stopped", n=5, batch_size=2).generated == 3
    generate_folder(model.task(), tmp_path / "whole", n=5, batch_size=2)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def test_ranks_share_the_images_and_the_last_one_writes_the_grid(model, tmp_path):
    first = generate_folder(model.task(), tmp_path / "shared", n=5, batch_size=2, rank=1, world=2)
    assert (first.share, first.files) == (2, ())
    assert len(generate_folder(model.task(), tmp_path / "shared", n=5, batch_size=2, rank=0, world=2).files) == 2
    generate_folder(model.task(), tmp_path / "alone", n=5, batch_size=2)
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")


def test_more_images_renew_the_files_made_of_fewer(model, tmp_path):
    generate_folder(model.task(), tmp_path / "grown", n=3, batch_size=2, exports=["npz", "zip", "gif"])
    (tmp_path / "grown/job.json").unlink()
    with pytest.warns(UserWarning, match=r"job\.json: is missing; it is written again from the images"):
        grown = generate_folder(model.task(), tmp_path / "grown", n=6, batch_size=2)
    generate_folder(model.task(), tmp_path / "whole", n=6, batch_size=2, exports=["npz", "zip", "gif"])
    assert [path.name for path in grown.files] == ["images", "grid.png", "trajectory.gif", "samples.npz", "samples.zip"]
    assert contents(tmp_path / "grown") == contents(tmp_path / "whole")


def test_files_made_of_fewer_images_do_not_outlive_an_interrupted_call(model, tmp_path):
    generate_folder(model.task(), tmp_path, n=3, batch_size=2, exports=["npz", "zip"])

    def stop(progress):
        if progress.done > 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_folder(model.task(), tmp_path, n=6, batch_size=2, on_progress=stop)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != ".") == ["images", "job.json"]
    generate_folder(model.task(), tmp_path, n=6, batch_size=2)
    with np.load(tmp_path / "samples.npz") as archive:
        assert len(archive["arr_0"]) == 6


def test_a_swapped_picture_goes_into_nothing_and_is_generated_again(model, tmp_path):
    generate_folder(model.task(), tmp_path, n=4, batch_size=2, exports=["npz", "zip"])
    before = contents(tmp_path)
    one, two = tmp_path / "images/000001.png", tmp_path / "images/000002.png"
    one.write_bytes(two.read_bytes())
    (tmp_path / "samples.npz").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"000001\.png: is an image of index 2; it is generated again"):
        assert generate_folder(model.task(), tmp_path, n=4, batch_size=2).generated == 1
    assert contents(tmp_path) == before


def test_another_task_in_the_same_folder_is_refused(model, tmp_path):
    generate_folder(model.task(), tmp_path, n=1)
    with pytest.raises(IntegrityError, match=r"differ in seed \(0 -> 1\); give another folder"):
        generate_folder(model.task(seed=1), tmp_path, n=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, r"^n: 0 is too few; give 1 or more$"),
        ({"batch_size": 0}, r"^batch_size: 0 is too few; give 1 or more$"),
        ({"rank": 2, "world": 2}, r"^rank: 2 is no rank among 2 processes; give 0 to 1$"),
        ({"exports": ["npy"]}, r"^exports: 'npy' is no format; did you mean 'npz'\?$"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(model, tmp_path, options, message):
    with pytest.raises(PartError, match=message):
        generate_folder(model.task(), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_task_without_protocol_and_a_sampler_that_does_not_fit_are_refused(model, tmp_path):
    with pytest.raises(PartError, match=r"^task: has no protocol"):
        generate_folder(SamplingTask(model.trained, DDIM(), 0), tmp_path / "out")
    with pytest.raises(ValueError, match=r"2000 steps do not fit"):
        generate_folder(model.task(steps=2000), tmp_path / "out")
    assert not (tmp_path / "out").exists()
