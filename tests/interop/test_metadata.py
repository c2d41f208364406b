"""Condition maps in the metadata of safetensors files."""

import os
import re

import pytest
import torch
from networks import Net
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from etsdm.condition_maps import ETSDM
from etsdm.errors import CheckpointError, StorageError
from etsdm.interop import condition_map_metadata, read_condition_map, share_timesteps, write_condition_map

TENSORS = {"b": torch.arange(7, dtype=torch.bfloat16), "a": torch.tensor([float("nan"), -0.0]), "c": torch.zeros(0, 3)}
NET = {"argument": "t", "unit": "unit-interval"}


def tensors_of(path):
    """The bytes after the header."""
    content = path.read_bytes()
    return content[8 + int.from_bytes(content[:8], "little") :]


def metadata_of(path):
    with safe_open(path, framework="pt") as file:
        return file.metadata()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "lora.safetensors"
    save_file(TENSORS, path, metadata={"ss_base_model": "é", "etsdm.condition_map": "old"})
    return path


def test_a_map_is_written_beside_the_tensors_and_read_back(file):
    before, mode = tensors_of(file), file.stat().st_mode
    write_condition_map(file, ETSDM(t_tilde=50, n=2))
    assert tensors_of(file) == before
    assert file.stat().st_mode == mode
    assert metadata_of(file) == {
        "ss_base_model": "é",
        "etsdm.condition_map": '{"n": 2, "share": "condition", "t_tilde": 50.0, "type": "e-tsdm"}',
    }
    assert read_condition_map(file) == (ETSDM(t_tilde=50, n=2), {})
    for name, tensor in load_file(file).items():
        assert torch.equal(tensor.nan_to_num(5), TENSORS[name].nan_to_num(5))


def test_the_map_of_a_shared_network_goes_with_its_argument(tmp_path):
    net, path = Net(), tmp_path / "net.safetensors"
    share_timesteps(net, 0.2, 2, horizon=1, **NET)
    save_file(net.state_dict(), path, metadata=condition_map_metadata(net))
    loaded, stored = Net(), read_condition_map(path)
    loaded.load_state_dict(load_file(path))
    share_timesteps(loaded, condition_map=stored.condition_map, **stored.argument)
    x, t = torch.zeros(4, 1, 1, 1), torch.tensor([0.05, 0.1, 0.15, 0.9])
    assert torch.equal(loaded(x, t), net(x, t))
    assert torch.equal(net(x, t), Net()(x, torch.tensor([0, 0.1, 0.1, 0.9])))


def test_a_file_without_a_map_has_none(tmp_path):
    save_file(TENSORS, tmp_path / "plain.safetensors")
    assert read_condition_map(tmp_path / "plain.safetensors") is None
    write_condition_map(tmp_path / "plain.safetensors", ETSDM())
    assert read_condition_map(tmp_path / "plain.safetensors").condition_map == ETSDM()


def test_a_network_with_true_timesteps_has_no_metadata():
    with pytest.raises(CheckpointError, match=r"Net.*not shared.*share_timesteps"):
        condition_map_metadata(Net())


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        ({"etsdm.condition_map": "{"}, "etsdm.condition_map in its metadata is no JSON"),
        ({"etsdm.condition_map": "[" * 100_000}, "etsdm.condition_map in its metadata is no JSON"),
        ({"etsdm.condition_map": "3"}, "condition_map is a int"),
        ({"etsdm.condition_map": '{"type": "e-tsmd"}'}, "'e-tsdm'"),
        ({"etsdm.condition_map": '{"type": "e-tsdm"}', "etsdm.timestep_argument": '{"exec": 1}'}, "timestep_argument"),
    ],
)
def test_metadata_that_is_no_map_is_named(tmp_path, metadata, found):
    path = tmp_path / "bad.safetensors"
    save_file(TENSORS, path, metadata=metadata)
    with pytest.raises(CheckpointError, match=f"bad.safetensors.*{re.escape(found)}"):
        read_condition_map(path)


@pytest.mark.parametrize("content", [b"", b"not safetensors", (10**12).to_bytes(8, "little") + b"{}", b"\x08\0\0\0\0\0\0\0{}      x"])
def test_a_file_that_is_no_safetensors_stays_as_it_is(tmp_path, content):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    for call in (read_condition_map, lambda path: write_condition_map(path, ETSDM())):
        with pytest.raises(CheckpointError, match=r"bad.safetensors: is no safetensors file"):
            call(path)
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["bad.safetensors"]


def test_a_truncated_file_is_refused(file):
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match="cut short"):
        write_condition_map(file, ETSDM())


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(StorageError, match=r"none.safetensors"):
        read_condition_map(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="regular file"):
        read_condition_map(tmp_path)


def test_a_failed_write_leaves_the_file(file, monkeypatch):
    before = file.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(StorageError, match="no space left"):
        write_condition_map(file, ETSDM())
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]
