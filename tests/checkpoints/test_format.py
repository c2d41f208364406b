import json
import shutil

import pytest
import torch
from sealing import edit

from etsdm.checkpoints.format import DENOISER_FILE, read_checkpoint, write_denoiser
from etsdm.condition_maps import ETSDM
from etsdm.errors import CheckpointError, IntegrityError
from etsdm.randomness import per_sample_normal
from etsdm.storage.files import atomic_folder, sha256_of
from etsdm.storage.tensors import read_tensors, write_tensors


@pytest.fixture(scope="module")
def denoiser(tiny_denoiser):
    return tiny_denoiser(target="v", condition_map={"type": "e-tsdm", "t_tilde": 200, "n": 8})


@pytest.fixture
def folder(tmp_path, denoiser):
    """A checkpoint."""
    with atomic_folder(tmp_path / "checkpoint") as folder:
        write_denoiser(folder, denoiser, denoiser.backbone.state_dict(), weights_are="ema", images_seen=512)
    return tmp_path / "checkpoint"


def refused(error, folder):
    with pytest.raises(error) as found:
        read_checkpoint(folder)
    return str(found.value)


def test_weights_come_back_to_the_last_bit(folder, denoiser):
    found, written = read_checkpoint(folder).denoiser.state_dict(), denoiser.state_dict()
    assert list(found) == list(written)
    for name, value in written.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


def test_the_denoiser_comes_back_with_its_parts(folder, denoiser):
    found = read_checkpoint(folder).denoiser
    assert found.spec == denoiser.spec
    assert found.spec.condition_map == ETSDM(t_tilde=200, n=8)
    x = per_sample_normal(0, "test/x", range(2), (1, 8, 8))
    t = torch.tensor([24.0, 600.0])
    assert torch.equal(found.predict(x, t).x0, denoiser.predict(x, t).x0)
    assert torch.equal(found.output(x, 24), found.output(x, 0))  # one condition, timesteps 0 to 24


def test_it_comes_back_ready_for_use(folder):
    found = read_checkpoint(folder).denoiser
    assert not found.training
    assert not any(parameter.requires_grad for parameter in found.parameters())


def test_facts_come_back_with_the_digest_of_the_weights(folder):
    found = read_checkpoint(folder)
    assert found.facts == {"weights_are": "ema", "images_seen": 512}
    assert found.weights_sha256 == sha256_of(folder / "weights.safetensors")


def test_a_checkpoint_is_two_files_that_can_be_moved(folder, tmp_path):
    moved = shutil.move(folder, tmp_path / "elsewhere")
    assert sorted(path.name for path in moved.iterdir()) == ["denoiser.json", "weights.safetensors"]
    assert read_checkpoint(moved).facts["images_seen"] == 512


def test_reading_leaves_the_global_generator_alone(folder):
    state = torch.get_rng_state()
    read_checkpoint(folder)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("place", [0, 1000, -1])
def test_a_damaged_byte_is_refused_with_the_file(folder, place):
    file = folder / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    message = refused(IntegrityError, folder)
    assert message.startswith(f"{file}: sha256 is ")
    assert message.endswith("was written; the file was damaged, copy it again")


def test_a_file_that_was_cut_off_is_refused(folder):
    file = folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert str(file) in refused(IntegrityError, folder)


def test_missing_weights_are_refused(folder):
    (folder / "weights.safetensors").unlink()
    message = refused(CheckpointError, folder)
    assert message == f"{folder / 'weights.safetensors'}: this file of the checkpoint is missing; copy the whole folder again"


def test_a_folder_without_a_record_is_refused(tmp_path):
    assert refused(CheckpointError, tmp_path) == (f"{tmp_path}: is no checkpoint, denoiser.json is missing; give a folder that holds it")


@pytest.mark.parametrize("content", ["", "{", "\x00", "[]", "[" * 100_000, "\ud800".encode("utf-8", "surrogatepass")])
def test_a_record_that_is_none_is_refused(folder, content):
    (folder / DENOISER_FILE).write_bytes(content if isinstance(content, bytes) else content.encode())
    message = refused(IntegrityError, folder)
    assert message.startswith(f"{folder / DENOISER_FILE}: ")
    assert message.endswith("; copy the checkpoint again")


@pytest.mark.parametrize("found", [0, 1, "2", None])
def test_another_format_is_refused(folder, found):
    edit(folder / DENOISER_FILE, lambda record: record.update(format=found))
    assert refused(IntegrityError, folder) == (
        f"{folder / DENOISER_FILE}: format {found!r} is not known, this etsdm reads format 2; use the etsdm that wrote it"
    )


@pytest.mark.parametrize("change", [("n", 7), ("t_tilde", 100), ("n", 8.0)])
def test_a_changed_record_is_refused(folder, change):
    record = json.loads((folder / DENOISER_FILE).read_text())
    record["denoiser"]["condition_map"].update([change])
    (folder / DENOISER_FILE).write_text(json.dumps(record))
    message = refused(IntegrityError, folder)
    assert message.startswith(f"{folder / DENOISER_FILE}: was changed or damaged: the sha256 of its content is not the recorded one; ")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_though_their_digest_is_right(folder, denoiser, value):
    weights = {name: weight.clone() for name, weight in denoiser.backbone.state_dict().items()}
    name = list(weights)[3]
    weights[name].view(-1)[0] = value
    edit(folder / DENOISER_FILE, lambda record: record.update(weights=write_tensors(folder / "weights.safetensors", weights).model_dump()))
    message = refused(IntegrityError, folder)
    assert message.startswith(f"{folder}: weight {name!r} of backbone 'adm-unet' is not finite; ")


@pytest.mark.parametrize("key", ["denoiser", "weights", "facts"])
def test_a_record_that_lacks_something_is_refused(folder, key):
    edit(folder / DENOISER_FILE, lambda record: record.pop(key))
    assert refused(IntegrityError, folder).startswith(f"{folder / DENOISER_FILE}: is no DenoiserRecord: {key}: Field required; ")


def test_a_specification_that_is_not_understood_is_refused_with_its_field(folder):
    edit(folder / DENOISER_FILE, lambda record: record["denoiser"]["condition_map"].update(n=0))
    assert refused(CheckpointError, folder) == (f"{folder / DENOISER_FILE}: denoiser.condition_map.n: found 0; give a value above 0")


def test_an_unknown_part_is_refused_with_a_near_name(folder):
    edit(folder / DENOISER_FILE, lambda record: record["denoiser"]["schedule"].update(type="liner"))
    assert "denoiser.schedule: unknown schedule 'liner'; did you mean 'linear'" in refused(CheckpointError, folder)


def test_weights_of_another_network_are_refused(folder):
    edit(folder / DENOISER_FILE, lambda record: record["denoiser"]["backbone"].update(num_res_blocks=2))
    message = refused(CheckpointError, folder)
    assert message.startswith(f"{folder}: the weights do not fit backbone 'adm-unet': ")
    assert "Missing key" in message or "size mismatch" in message


def test_tensors_of_every_kind_come_back(tmp_path):
    tensors = {
        "half": torch.tensor([1.5, -2.25], dtype=torch.bfloat16),
        "counts": torch.arange(6).reshape(2, 3),
        "transposed": torch.arange(6.0).reshape(2, 3).T,
        "scalar": torch.tensor(0.1, dtype=torch.float64),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "empty": torch.zeros(0, 3),
    }
    found = read_tensors(tmp_path, write_tensors(tmp_path / "a.safetensors", tensors))
    assert set(found) == set(tensors)
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value.detach())


@pytest.mark.parametrize("missing", [("first_stage", "super_resolution"), ("first_stage",), ("super_resolution",)])
def test_a_record_from_before_there_were_first_stages_loads(folder, denoiser, missing):
    def forget(record):
        assert record.pop("first_stage") is None
        for name in missing:
            assert record["denoiser"].pop(name) is None

    edit(folder / DENOISER_FILE, forget)
    found = read_checkpoint(folder).denoiser
    assert found.spec == denoiser.spec
    assert found.first_stage is None
