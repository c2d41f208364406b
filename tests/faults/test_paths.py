"""Paths that no file or folder has, or that cannot be used, in every public function that takes one: one error, which names the path."""

import inspect
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

import etsdm
from etsdm.checkpoints import checkpoint_folder, latest_checkpoint, load_first_stage, read_checkpoint, write_denoiser
from etsdm.condition_maps import ETSDM
from etsdm.errors import EtsdmError, StorageError
from etsdm.interop import Options, convert, export_denoiser, open_model, read_condition_map, write_condition_map
from etsdm.recipe import find, load_arms, read
from etsdm.registry import backbones, datasets
from etsdm.report import write_report
from etsdm.runs.folder import ExperimentFolder
from etsdm.runs.origin import recipe_of_checkpoint
from etsdm.samplers import DDIM
from etsdm.sampling import (
    PngStore,
    SampledModel,
    SamplingTask,
    TensorStore,
    generate_folder,
    read_low_res,
    write_grid,
    write_npz,
    write_zip,
)
from etsdm.storage.faults import storage_errors

SECONDS = 20.0
NETWORK = {
    "in_channels": 1,
    "out_channels": 1,
    "model_channels": 8,
    "num_res_blocks": 1,
    "channel_mult": (1,),
    "attention_resolutions": (),
    "norm_groups": 4,
}
FIELDS = {"schedule": "linear", "backbone": {"image_size": 8, "num_head_channels": 8, "norm_groups": 4}}
LONGEST = 1200  # characters of a message


def of_names(folder):
    (folder / "loop").symlink_to("loop")
    (folder / "file").write_text("text")
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
    forbidden = folder / "forbidden"
    forbidden.mkdir()
    forbidden.chmod(0)
    return {
        "long name": folder / ("a" * 5000),
        "long path": folder / "/".join(["a" * 200] * 40),
        "nul": f"{folder}/a\0b",
        "not utf-8": f"{folder}/a\udcffb",
        "surrogate": f"{folder}/a\ud800b",
        "loop": folder / "loop",
        "below a loop": folder / "loop" / "b",
        "below a file": folder / "file" / "b",
        "file": folder / "file",
        "fifo": folder / "fifo",
        "socket": folder / "socket",
        "endless": "/dev/zero",
        "full": "/dev/full",
        "memory": "/proc/self/mem",
        "no file of the system": "/proc/self/nothing",
        "below the system": "/proc/1/etsdm/a",
        "forbidden": forbidden,
        "below the forbidden": forbidden / "a",
    }


KINDS = (
    "long name", "long path", "nul", "not utf-8", "surrogate", "loop", "below a loop", "below a file", "file", "fifo", "socket", "endless",
    "full", "memory", "no file of the system", "below the system", "forbidden", "below the forbidden",
)  # fmt: skip
ROOT_MAY = ("forbidden", "below the forbidden")


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    found = of_names(tmp_path_factory.mktemp("paths"))
    assert tuple(found) == KINDS
    return found


@pytest.fixture(scope="module")
def denoiser(tiny_denoiser):
    return tiny_denoiser()


@pytest.fixture(scope="module")
def latents(latent_denoiser):
    return latent_denoiser


@pytest.fixture(scope="module")
def enlarging(tiny_spec):
    return tiny_spec(super_resolution={"factor": 2}, backbone={"in_channels": 2})


@pytest.fixture
def free(tmp_path):
    return tmp_path / "free"


@pytest.fixture(scope="module")
def exported(tiny_spec):
    """A denoiser that diffusers has a class for."""
    return tiny_spec(backbone={"type": "adm-unet", "image_size": 8, **NETWORK}).build()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of guided-diffusion."""
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(backbones.create("adm-unet", image_size=8, **NETWORK).build().state_dict(), path)
    return path


def folder_data(path):
    return datasets.create("image-folder", path=str(path), image_size=8, held_out=0)


def task(denoiser):
    return SamplingTask(denoiser, DDIM(steps=1), 0, protocol={"a": 1})


READERS = {
    "load": lambda path, has: etsdm.load(path),
    "diagnose": lambda path, has: etsdm.diagnose(path),
    "wrap": lambda path, has: etsdm.wrap(path),
    "open_model": lambda path, has: open_model(path),
    "convert": lambda path, has: convert("guided-diffusion", path, has("free")),
    "convert of diffusers": lambda path, has: convert("diffusers", path, has("free")),
    "read_condition_map": lambda path, has: read_condition_map(path),
    "read_checkpoint": lambda path, has: read_checkpoint(path),
    "checkpoint_folder": lambda path, has: checkpoint_folder(path),
    "SampledModel": lambda path, has: SampledModel.from_checkpoint(path),
    "recipe_of_checkpoint": lambda path, has: recipe_of_checkpoint(path),
    "load_first_stage": lambda path, has: load_first_stage(has("latents"), path),
    "build": lambda path, has: etsdm.build(path),
    "build of a mapping": lambda path, has: etsdm.build({"extends": str(path)}),
    "load_arms": lambda path, has: load_arms(path),
    "find": lambda path, has: read(find(path)),
    "read": lambda path, has: read(path),
    "read_low_res": lambda path, has: read_low_res(path, has("enlarging")),
    "data.open": lambda path, has: folder_data(path).open("train").load(),
    "data.check": lambda path, has: folder_data(path).check(),
    "data.check_files": lambda path, has: list(folder_data(path).check_files()),
}
WRITERS = {
    "save": lambda path, has: etsdm.save(has("denoiser"), path),
    "write_denoiser": lambda path, has: write_denoiser(path, has("denoiser"), has("denoiser").backbone.state_dict()),
    "generate_folder": lambda path, has: generate_folder(task(has("denoiser")), path, n=1),
    "PngStore.open_for": lambda path, has: PngStore(path, {}).open_for(1),
    "PngStore.write": lambda path, has: PngStore(path, {}).write([0], torch.zeros(1, 1, 8, 8)),
    "TensorStore.open": lambda path, has: TensorStore(path, "0" * 64).open(),
    "TensorStore.write": lambda path, has: TensorStore(path, "0" * 64).write([0], torch.zeros(1, 1, 8, 8)),
    "TensorStore.read": lambda path, has: TensorStore(path, "0" * 64).read([0]),
    "convert into": lambda path, has: convert("guided-diffusion", has("weights"), path, Options(model=FIELDS)),
    "export_denoiser": lambda path, has: export_denoiser(has("denoiser"), path, "safetensors"),
    "export_denoiser to diffusers": lambda path, has: export_denoiser(has("exported"), path, "diffusers"),
    "write_condition_map": lambda path, has: write_condition_map(path, ETSDM()),
    "write_grid": lambda path, has: write_grid(PngStore(path, {}), 1),
    "write_npz": lambda path, has: write_npz(PngStore(path, {}), 1, "samples.npz"),
    "write_zip": lambda path, has: write_zip(PngStore(path, {}), 1, "samples.zip"),
    "write_report": lambda path, has: write_report(ExperimentFolder(Path(path))),
    "run": lambda path, has: etsdm.build("digits", "training.images=1", "training.warmup_images=0", out=path).run(),
    "runs": lambda path, has: etsdm.build("digits", out=path).runs[0].is_done("train"),
}
MAY_SUCCEED = {"runs", "data.files", "latest_checkpoint"}  # there is no run, no file, no checkpoint


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*READERS, *WRITERS])
def test_a_bad_path_is_one_error(name, kind, paths, request):
    if kind in ROOT_MAY and os.geteuid() == 0:
        pytest.skip("root may read and write everything")
    if kind == "not utf-8" and name in WRITERS:
        pytest.skip("a name like any other")
    path, clock = paths[kind], time.process_time()
    call = {**READERS, **WRITERS}[name]
    try:
        call(path, request.getfixturevalue)
    except EtsdmError as error:
        message = str(error)
        assert len(message) < LONGEST
        assert message.isprintable() or "\n" in message
        assert ";" in message or "no file" in message
    else:
        assert name in MAY_SUCCEED
    assert time.process_time() - clock < SECONDS


def test_what_may_find_nothing_is_one_error_or_none(paths):
    for kind, path in paths.items():
        for call in (latest_checkpoint, lambda path: folder_data(path).files().content):
            with suppress(EtsdmError):
                assert call(path) is None, kind


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a" * 5000, r"^aaa.*\.\.\.a+: file name too long; give a shorter name; nothing that was saved is lost$"),
        ("a\0b", r"^a\\x00b: a name holds a NUL character, .*; give another path; nothing"),
        ("a\ud800b", r"^a\\ud800b: a name holds a character that no file's has; give another path; nothing"),
    ],
)
def test_the_kind_lives_in_storage_errors(name, message):
    with pytest.raises(StorageError, match=message), storage_errors(Path(name)):
        os.stat(name)


def test_other_value_errors_pass():
    with pytest.raises(ValueError, match=r"^no path$") as caught, storage_errors():
        raise ValueError("no path")
    assert not isinstance(caught.value, EtsdmError)


def test_every_function_of_a_path_is_tried():
    """Public functions with a parameter that is a path, by name."""
    import etsdm.checkpoints
    import etsdm.interop
    import etsdm.recipe
    import etsdm.sampling

    tried = {*READERS, *WRITERS, "latest_checkpoint", "Experiment"}
    for module in (etsdm, etsdm.checkpoints, etsdm.interop, etsdm.recipe, etsdm.sampling):
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isfunction(thing) and any("Path" in str(p.annotation) for p in inspect.signature(thing).parameters.values()):
                assert name in tried, name
