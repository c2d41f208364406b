"""Network snapshots of EDM: read in another process, without any of their code."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from edm_pickles import ddpm_levels, dumped, snapshot
from foreign import Payload, filled

import etsdm
from etsdm.backbones.dhariwal import DhariwalUNet
from etsdm.backbones.song import SongUNet
from etsdm.errors import CheckpointError, IntegrityError
from etsdm.interop import Options, convert, pickled_network
from etsdm.interop.pickled_network import read_pickled_network
from etsdm.schedules import Cosine

SMALL = {"in_channels": 1, "out_channels": 1, "model_channels": 16, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4]}
SONG = {**SMALL, "augment_dim": 3, "embedding_type": "fourier", "encoder_type": "residual", "channel_mult_noise": 2}
SONG |= {"resample_filter": [1, 3, 3, 1]}
NETWORKS = {"SongUNet": (SongUNet, SONG), "DhariwalUNet": (DhariwalUNet, {**SMALL, "model_channels": 32})}


def network(kind, **changes):
    """The network of a kind, and the arguments of its original."""
    part, fields = NETWORKS[kind]
    fields = {**fields, **changes}
    spec = part(image_size=8, **{key: value for key, value in fields.items() if key != "label_dim"}, num_classes=fields.get("label_dim"))
    return filled(spec.build()), {"img_resolution": 8, "label_dim": 0, **fields}


@pytest.fixture
def source(tmp_path):
    """Writes a snapshot: (network, path)."""

    def make(kind="SongUNet", protocol=4, changes=None, **parts):
        made, arguments = network(kind, **(changes or {}))
        path = tmp_path / "network-snapshot-000010.pkl"
        code = f"open({str(tmp_path / 'ran')!r}, 'w').close()"
        content = snapshot(made.state_dict(), kind, arguments, source=code, **{"sigma_data": 0.5, "sigma_max": float("inf"), **parts})
        path.write_bytes(dumped(content, protocol))
        return made, path

    yield make
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("kind", "protocol"), [("SongUNet", 2), ("DhariwalUNet", 5)])
def test_a_snapshot_gives_its_network_and_preconditioning(source, tmp_path, kind, protocol):
    made, path = source(kind, protocol, {"label_dim": 4}, sigma_data=0.4)
    report = convert("edm", path, tmp_path / "out")
    found = etsdm.load(tmp_path / "out")
    assert found.spec.backbone == made.spec
    assert found.target.sigma_data == 0.4
    assert (found.schedule.type_name, found.time_input.type_name) == ("edm", "log-sigma")
    assert all(torch.equal(value, found.backbone.state_dict()[key]) for key, value in made.state_dict().items())
    assert report.used["map_layer0.weight"] == "ema.model.map_layer0.weight"
    assert report.ignored == dict.fromkeys(["loss_fn", "augment_pipe", "dataset_kwargs"], "beside the network")


@pytest.mark.parametrize("precond", ["VPPrecond", "VEPrecond", "iDDPMPrecond"])
def test_every_preconditioning_denoises_as_its_formula_says(source, tmp_path, precond):
    parts = {
        "VPPrecond": {"beta_d": 19.9, "beta_min": 0.1, "M": 1000},
        "VEPrecond": {"sigma_max": 100},
        "iDDPMPrecond": {"buffers": {"u": ddpm_levels()}},
    }[precond]
    made, path = source("DhariwalUNet", changes={"out_channels": 2} if precond == "iDDPMPrecond" else {}, precond=precond, **parts)
    convert("edm", path, tmp_path / "out")
    found = etsdm.load(tmp_path / "out")
    noisy, t = torch.linspace(-2, 2, 64).reshape(1, 1, 8, 8), {"VPPrecond": 0.3, "iDDPMPrecond": 30.0}.get(precond, 1.7)
    alpha, sigma = (value.float() for value in found.schedule.alpha_sigma(t))
    s = sigma / alpha
    # table 1 of Karras et al. 2022, with y = x0 + s n
    c_skip, c_out, c_in, c_noise = {
        "VPPrecond": (1, -s, 1 / (s**2 + 1).sqrt(), torch.tensor(999 * 0.3)),
        "VEPrecond": (1, s, torch.tensor(1.0), (0.5 * s).log()),
        "iDDPMPrecond": (1, -s, 1 / (s**2 + 1).sqrt(), torch.tensor(30.0)),
    }[precond]
    with torch.no_grad():
        expected = c_skip * noisy + c_out * made(c_in * noisy, c_noise.reshape(1).float())[:, :1]
    torch.testing.assert_close(found.predict(alpha * noisy, t).x0, expected, atol=2e-5, rtol=2e-5)
    if precond == "iDDPMPrecond":
        assert found.schedule == Cosine(timesteps=100)
        assert found.learns_variance


def trick(*reduced):
    """An object with this reduction."""

    class Trick:
        def __reduce__(self):
            return reduced

    return Trick()


def test_payloads_are_named_and_nothing_of_them_runs(tmp_path):
    marker, path = tmp_path / "ran", tmp_path / "evil.pkl"
    code = f"open({str(marker)!r}, 'w').close()"
    nested = snapshot(network("SongUNet")[0].state_dict(), "SongUNet", {}, sigma_data=0.5)
    nested["dataset_kwargs"]["deep"] = [{"er": Payload(marker)}]
    payloads = {
        r"(posix|nt)\.system": {"ema": Payload(marker)},
        r"builtins\.exec": {"ema": trick(exec, (code,))},
        r"builtins\.eval": {"ema": trick(eval, (code,))},
        r"builtins\.getattr": {"ema": trick(getattr, ("os", "system"))},
        r"torch\.serialization\.load": {"ema": trick(torch.load, (str(path),))},
        r"subprocess\.Popen": trick(subprocess.Popen, (["touch", str(marker)],)),
        r"posix\.system|nt\.system": nested,
    }
    for name, value in payloads.items():
        path.write_bytes(dumped(value))
        with pytest.raises(IntegrityError, match=rf"evil\.pkl: its pickle asks for ({name}); give a snapshot of NVlabs/edm"):
            read_pickled_network(path)
    # the bytes of a storage are themselves a torch file
    inner = trick(torch.storage._load_from_bytes, (pickle.dumps(Payload(marker)),))
    path.write_bytes(dumped({"ema": inner}))
    with pytest.raises(IntegrityError, match=r"evil\.pkl: a storage in its pickle asks for (posix|nt)\.system"):
        read_pickled_network(path)
    assert not marker.exists()


def test_damage_other_pickles_and_exhausting_ones_are_refused(source, tmp_path, monkeypatch):
    _, path = source()
    content = path.read_bytes()
    bomb = b"\x80\x04" + b"]" + b"(" * 10 + b"\x8e" + (2**45).to_bytes(8, "little") + b"x" * 20
    storage = torch.storage.TypedStorage(wrap_storage=torch.zeros(1).untyped_storage(), dtype=torch.float32, _internal=True)
    huge = (storage, 0, (10**9, 10**9), (0, 0), False, None)
    cases = {
        r"the pickle is damaged": content[: len(content) // 2],
        r"no network under the key ema": dumped({"net": 1}),
        r"the pickle is damaged|more memory": bomb,
        r"a tensor of more values than are stored": dumped({"ema": trick(torch._utils._rebuild_tensor_v2, huge)}),
        r"its pickle refers to an object outside of it": b"\x80\x04\x8c\x01x\x51.",
        r"copyreg\._reconstructor of something else": b"\x80\x02ccopyreg\n_reconstructor\nctorch._utils\n_rebuild_parameter\nNN\x87R.",
    }
    for message, data in cases.items():
        path.write_bytes(data)
        with pytest.raises(IntegrityError, match=rf"network-snapshot-000010\.pkl: ({message})"):
            read_pickled_network(path)
    monkeypatch.setattr(pickled_network, "TIMEOUT_S", 0.01)
    with pytest.raises(IntegrityError, match=r"takes longer than 0\.01 s to read"):
        read_pickled_network(path)


def test_other_networks_and_numbers_are_named(source, tmp_path):
    for parts, message in (
        ({"precond": "Precond"}, r"its preconditioning is a Precond, and EDMPrecond"),
        ({"sigma_data": "0.5"}, r"EDMPrecond\.sigma_data is '0\.5', and a number is expected"),
        ({"changes": {"num_blocks": 2}, "kind": "DhariwalUNet", "sigma_data": -1.0}, r"model\.target\.sigma_data: "),
    ):
        _, path = source(**parts)
        with pytest.raises(CheckpointError, match=rf"\.pkl: {message}"):
            convert("edm", path, tmp_path / "out")
    made, arguments = network("SongUNet")
    state = dict(made.state_dict())
    del state["map_layer0.bias"]
    path.write_bytes(dumped(snapshot(state, "SongUNet", arguments, sigma_data=0.5)))
    with pytest.raises(CheckpointError, match=r"does not fit backbone 'song-unet': 1 keys missing \(map_layer0\.bias\)"):
        convert("edm", path, tmp_path / "out")
    path.write_bytes(dumped(snapshot(made.state_dict(), "UNet", arguments, sigma_data=0.5)))
    with pytest.raises(CheckpointError, match=r"its network is a UNet, and SongUNet and DhariwalUNet are known; wrap"):
        convert("edm", path, tmp_path / "out")
    with pytest.raises(CheckpointError, match=r"holds the moving average alone"):
        convert("edm", path, tmp_path / "out", Options(weights="current"))


def test_the_reader_is_one_file_without_the_package():
    lines = Path(pickled_network.READER).read_text().splitlines()
    imported = {line.split()[1].split(".")[0] for line in lines if line.startswith(("import ", "from "))}
    assert imported <= sys.stdlib_module_names
