"""Foreign files: what is read, and what is refused before anything of it runs."""

import json
import pickle
import re
import struct
from argparse import Namespace

import pytest
import torch
from foreign import Payload, legacy_bytes, payload_pickle, rezipped
from safetensors.torch import save_file

from etsdm.errors import CheckpointError, IntegrityError
from etsdm.interop.safe_load import read_contents, read_json, tensors_of

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1.0, -2.0])}


@pytest.fixture
def torch_file(tmp_path):
    torch.save(STATE, tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


def same(found, expected=STATE):
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


def write_shards(folder, write, suffix):
    """Two shards and their index."""
    shard_of = {}
    for number, (key, value) in enumerate(STATE.items(), 1):
        name = f"model-{number:05d}-of-00002.{suffix}"
        write({key: value}, folder / name)
        shard_of[key] = name
    index = folder / f"model.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 32}, "weight_map": shard_of}))
    return index


def test_torch_files_safetensors_and_shards_of_both_give_their_tensors(torch_file, tmp_path):
    save_file(STATE, tmp_path / "weights.safetensors", {"format": "pt"})
    found = read_contents(tmp_path / "weights.safetensors")
    assert same(found.values)
    assert found.metadata == {"format": "pt"}
    assert same(read_contents(torch_file).values)
    assert len(read_contents(torch_file).files["weights.pt"]) == 64
    for write, suffix in ((save_file, "safetensors"), (torch.save, "bin")):
        found = read_contents(write_shards(tmp_path, write, suffix))
        assert same(found.values)
        assert len(found.files) == 3


def test_half_precision_is_kept(tmp_path):
    torch.save({"w": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "half.pt")
    assert read_contents(tmp_path / "half.pt").values["w"].dtype == torch.bfloat16


def test_plain_values_and_the_objects_of_known_trainers_stand_beside_tensors(tmp_path):
    torch.save({"ema": STATE, "step": 3, "args": Namespace(lr=1e-4)}, tmp_path / "trainer.pt")
    found = read_contents(tmp_path / "trainer.pt").values
    assert same(tensors_of(tmp_path / "trainer.pt", found["ema"]))
    assert not hasattr(found["args"], "lr")


def test_a_payload_in_a_torch_file_or_a_shard_is_named_and_not_run(tmp_path):
    marker = tmp_path / "ran"
    for value in ({"w": Payload(marker)}, {"deep": [{"w": (torch.ones(1), Payload(marker))}]}):
        torch.save(value, tmp_path / "evil.pt")
        with pytest.raises(IntegrityError, match=r"evil\.pt: its pickle asks for (posix|nt)\.system, .*save its state dict again"):
            read_contents(tmp_path / "evil.pt")
    index = write_shards(tmp_path, torch.save, "bin")
    torch.save({"a.bias": Payload(marker)}, tmp_path / "model-00002-of-00002.bin")
    with pytest.raises(IntegrityError, match=r"model-00002-of-00002\.bin: its pickle asks for"):
        read_contents(index)
    assert not marker.exists()


def test_payloads_behind_allowed_names_are_not_run(torch_file, tmp_path):
    marker = tmp_path / "ran"
    # getattr of an allowed module, and a call of what a memo holds: neither is a global that is listed
    tricks = {
        "builtins.getattr": b"\x80\x02cbuiltins\ngetattr\nctorch\nload\nX\x04\x00\x00\x00call\x86R.",
        "builtins.eval": b"\x80\x02cbuiltins\neval\nX\x04\x00\x00\x00exit\x85R.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.",
        "builtins.exec": b"\x80\x02" + pickle.dumps(f"open({str(marker)!r},'w')", 2)[2:-1] + b"0cbuiltins\nexec\nX\x01\x00\x00\x001\x85R.",
    }
    for name, code in tricks.items():
        out = rezipped(torch_file, tmp_path / "trick.pt", lambda entry, content, code=code: code if entry.endswith("data.pkl") else content)
        with pytest.raises(IntegrityError, match=r"trick\.pt: .*(copy it again|save its state dict again)"):
            read_contents(out)
        assert not marker.exists(), name


def test_pickles_legacy_files_torchscript_and_archives_with_more_are_refused(torch_file, tmp_path):
    marker = tmp_path / "ran"
    old = tmp_path / "old.pt"
    for content in (legacy_bytes(STATE), payload_pickle(marker)):
        old.write_bytes(content)
        with pytest.raises(IntegrityError, match=r"old\.pt: is a pickle, or a torch file of before torch 1\.6.*save it again"):
            read_contents(old)
    torch.jit.script(torch.nn.Linear(1, 1)).save(str(tmp_path / "script.pt"))
    with pytest.raises(IntegrityError, match=r"script\.pt: is a TorchScript program"):
        read_contents(tmp_path / "script.pt")
    more = rezipped(torch_file, tmp_path / "more.pt", lambda name, content: content)
    import zipfile

    with zipfile.ZipFile(more, "a") as archive:
        archive.writestr("weights/../../evil.py", "x")
    with pytest.raises(IntegrityError, match=r"more\.pt: its archive has an entry '.*evil\.py'"):
        read_contents(more)
    with zipfile.ZipFile(torch_file) as source, zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    with pytest.raises(IntegrityError, match=r"packed\.pt: its entry .* is compressed"):
        read_contents(tmp_path / "packed.pt")
    assert not marker.exists()


@pytest.mark.parametrize("share", [0.3, 0.7, 0.98])
def test_truncated_files_are_refused(torch_file, tmp_path, share):
    save_file(STATE, tmp_path / "weights.safetensors")
    for path in (torch_file, tmp_path / "weights.safetensors"):
        content = path.read_bytes()
        short = tmp_path / f"short{path.suffix}"
        short.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(IntegrityError, match=rf"{re.escape(str(short))}: .*copy it again"):
            read_contents(short)


def test_a_header_of_safetensors_may_not_be_a_bomb_or_lead_outside_the_file(tmp_path):
    path = tmp_path / "bomb.safetensors"
    outside = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    huge = json.dumps({"w": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]}}).encode()
    nested = b'{"w":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    for header in (outside, huge, nested):
        path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0\0\0")
        with pytest.raises(IntegrityError, match=r"bomb\.safetensors: is a damaged safetensors file"):
            read_contents(path)
    path.write_bytes(struct.pack("<Q", 2**60) + b'{"w": 1}')
    with pytest.raises(IntegrityError, match=r"bomb\.safetensors: its header has 1,152,921,504,606,846,976 bytes"):
        read_contents(path)


def test_an_index_names_files_beside_it_with_exactly_its_keys(tmp_path):
    index = write_shards(tmp_path, save_file, "safetensors")
    good = json.loads(index.read_text())["weight_map"]
    inner = tmp_path / "inner"
    inner.mkdir()
    for name in ("../secret.safetensors", str(tmp_path / "model-00001-of-00002.safetensors"), "..", "", "a\\b"):
        (inner / index.name).write_text(json.dumps({"weight_map": {**good, "a.bias": name}}))
        with pytest.raises(IntegrityError, match=r"index\.json: weight_map: .* leads out of the index's folder"):
            read_contents(inner / index.name)
    index.write_text(json.dumps({"weight_map": {**good, "b": good["a.bias"]}}))
    with pytest.raises(IntegrityError, match=r"weight_map: key 'b' is missing in model-00002-of-00002\.safetensors"):
        read_contents(index)
    index.write_text(json.dumps({"weight_map": {"a.bias": good["a.bias"]}}))
    assert read_contents(index).values.keys() == {"a.bias"}
    save_file(STATE, tmp_path / good["a.bias"])
    with pytest.raises(IntegrityError, match=r"weight_map: key 'a\.weight' is not by the index in"):
        read_contents(index)
    for text in ("[]", "{", "[" * 10_000, json.dumps({"weight_map": {"a": 1}})):
        index.write_text(text)
        with pytest.raises(IntegrityError, match=r"index\.json: .*copy"):
            read_contents(index)


def test_what_is_no_file_of_weights_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.pt: does not exist; give a file"):
        read_contents(tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match=r": is a folder; give a file"):
        read_contents(tmp_path)
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(IntegrityError, match=r"text\.pt: is no torch or safetensors file"):
        read_contents(tmp_path / "text.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(IntegrityError, match=r"list\.pt: holds a list, and a mapping is expected"):
        read_contents(tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match=r"x\.json: does not exist"):
        read_json(tmp_path / "x.json")


def test_a_state_dict_holds_dense_tensors_alone(tmp_path):
    path = tmp_path / "odd.pt"
    huge = torch.zeros(1).expand(10**6, 10**6)
    for value in (huge, torch.eye(2).to_sparse(), torch.empty(2, device="meta")):
        with pytest.raises(CheckpointError, match=r"odd\.pt: tensor 'w' is sparse, quantized, or larger than what is stored"):
            tensors_of(path, {"w": value})
    with pytest.raises(CheckpointError, match=r"odd\.pt: model: 'step' holds a int, and a tensor is expected"):
        tensors_of(path, {"step": 3}, "model")
    with pytest.raises(CheckpointError, match=r"odd\.pt: is no state dict"):
        tensors_of(path, [])
