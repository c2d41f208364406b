"""Every file of a folder of `etsdm sample`, damaged: refused, made again, or without effect; never a traceback, never other pictures."""

import shutil

import pytest

from etsdm.errors import EtsdmError
from etsdm.samplers import DDIM
from etsdm.sampling import SampledModel, generate_folder

N = 4
EXPORTS = ("npz", "zip", "gif")
FILES = ("job.json", "grid.png", "samples.npz", "samples.zip", "trajectory.gif", "images/000001.png", "images/000003.png")


@pytest.fixture(scope="module")
def model(tiny_denoiser):
    denoiser = tiny_denoiser(target="v", backbone={"type": "adm-unet", "model_channels": 8, "norm_groups": 4, "channel_mult": [1]})
    return SampledModel.of(denoiser.eval(), sampler=DDIM(steps=2))


@pytest.fixture(scope="module")
def jobs(model, tmp_path_factory):
    """Two finished jobs of one model, which differ in the seed."""
    folders = [tmp_path_factory.mktemp("job") for _ in range(2)]
    for seed, folder in enumerate(folders):
        generate_folder(model.task(seed=seed), folder, n=N, batch_size=2, exports=EXPORTS)
    return folders


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name[:5] != ".lock"
    }


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def swapped(path, jobs):
    """The picture of another index, or a record of another shape."""
    path.write_bytes((path.parent / "000000.png").read_bytes() if path.suffix == ".png" and path.name != "grid.png" else b'{"images": [4]}')


DAMAGES = {
    "cut": lambda path, jobs: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path, jobs: path.write_bytes(b""),
    "first byte": lambda path, jobs: flip(path, 0),
    "middle": lambda path, jobs: flip(path, path.stat().st_size // 2),
    "last bytes": lambda path, jobs: flip(path, -20),
    "other job": lambda path, jobs: shutil.copy(jobs[1] / path.relative_to(path.parents[1 if path.parent.name == "images" else 0]), path),
    "swapped": swapped,
    "removed": lambda path, jobs: path.unlink(),
    "folder": lambda path, jobs: (path.unlink(), path.mkdir()),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_or_made_again(model, jobs, tmp_path, file, damage):
    folder = tmp_path / "job"
    shutil.copytree(jobs[0], folder)
    DAMAGES[damage](folder / file, jobs)
    try:
        generate_folder(model.task(seed=0), folder, n=N, batch_size=2)
    except EtsdmError as error:
        message = str(error)
    else:
        message = None
    assert (message is not None) == (damage == "folder")
    if message is not None:
        assert message.startswith(f"{folder / file}: is a folder in the place of a")
        assert message.endswith("; remove it")
        (folder / file).rmdir()
        generate_folder(model.task(seed=0), folder, n=N, batch_size=2)
    assert contents(folder) == contents(jobs[0])


def test_pictures_of_another_job_are_not_written_over(model, jobs, tmp_path):
    folder = tmp_path / "job"
    shutil.copytree(jobs[1], folder)
    shutil.copy(jobs[0] / "job.json", folder / "job.json")
    before = contents(folder)
    with pytest.raises(EtsdmError, match=r"holds images that differ in seed \(1 -> 0\); give another folder"):
        generate_folder(model.task(seed=0), folder, n=N, batch_size=2)
    assert contents(folder) == before
