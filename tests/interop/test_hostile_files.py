"""Files of every origin through `convert` and `diagnose`: as they are, and damaged in every way that is common or hostile."""

import json
import re
import shutil
from contextlib import contextmanager

import pytest
import torch
from edm_pickles import dumped, snapshot
from entry_point import run
from foreign import LucidrainsUnet, Payload, filled, lucidrains_file
from layouts import LAYOUTS, SONG, made
from safetensors.torch import save_file

from etsdm.errors import CheckpointError, IntegrityError
from etsdm.interop import Options, convert, export_denoiser, open_model
from etsdm.interop.safe_load import read_contents

ARGUMENTS = {**SONG.model_dump(mode="json", exclude={"type", "image_size", "num_classes"}), "img_resolution": 8}
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"  # of a pipeline of diffusers
FIELDS = {origin: given for origin, (_, given, _) in LAYOUTS.items()} | {"lucidrains": {"target": "v", "backbone": {"image_size": 8}}}
# The last part of a key that every file of an origin has.
KEYS = dict.fromkeys(LAYOUTS, "bias") | {"lucidrains": "ema_model.model.final_conv.weight", "ldm": "diffusion_modelout2bias"}
EXTERNAL = r"holds the weights of an external network"


class Source:
    """A small file of an origin: its state dict, and a writer of files with another one."""

    def __init__(self, origin, folder):
        self.origin, self.folder = origin, folder
        if origin == "lucidrains":
            self.around = lucidrains_file(filled(LucidrainsUnet(), 1), filled(LucidrainsUnet(), 2))
            self.state = self.around["ema"]
            return
        export_denoiser(made(origin), folder / "whole", origin)
        contents = read_contents(folder / "whole" / WEIGHTS if origin == "diffusers" else folder / "whole")
        inside = {"ldm": "state_dict", "edm": "ema"}.get(origin)
        self.state, self.metadata = contents.values[inside] if inside else contents.values, contents.metadata
        if origin == "edm":
            self.state = {key.removeprefix("model."): value for key, value in self.state.items()}

    def write(self, folder, state):
        """Writes a file, or for diffusers a folder. Returns: its path, and the file of the weights."""
        path = file = folder / "model"
        match self.origin:
            case "diffusers":
                shutil.copytree(self.folder / "whole", path)
                file = path / WEIGHTS
                if self.is_plain(state):
                    save_file(state, file)
                else:
                    file.unlink()
                    file = file.with_suffix(".bin")
                    torch.save(state, file)
            case "safetensors" if self.is_plain(state):
                save_file(state, file, self.metadata)
            case "edm":
                file.write_bytes(dumped(snapshot(state, "SongUNet", ARGUMENTS, sigma_data=0.4) if self.is_plain(state) else {"ema": state}))
            case "ldm":
                torch.save({"state_dict": state}, file)
            case "lucidrains":
                torch.save({**self.around, "ema": state}, file)
            case _:
                torch.save(state, file)
        return path, file

    @staticmethod
    def is_plain(state):
        return all(isinstance(value, torch.Tensor) for value in state.values())

    def write_shards(self, folder):
        """Writes the state dict as two shards of safetensors and an index. Returns: what is given to a converter."""
        path, name = folder / "model.safetensors.index.json", "model"
        if self.origin == "diffusers":
            shutil.copytree(self.folder / "whole", folder / "model")
            (folder / "model" / WEIGHTS).unlink()
            path, name = folder / "model" / f"{WEIGHTS}.index.json", "diffusion_pytorch_model"
        keys = list(self.state)
        shards = {f"{name}-0000{i + 1}-of-00002.safetensors": keys[i::2] for i in (0, 1)}
        for shard, held in shards.items():
            save_file({key: self.state[key].clone() for key in held}, path.with_name(shard))
        path.write_text(json.dumps({"metadata": {}, "weight_map": {key: shard for shard, held in shards.items() for key in held}}))
        return folder / "model" if self.origin == "diffusers" else path


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return {origin: Source(origin, tmp_path_factory.mktemp(origin)) for origin in FIELDS}


def changed(source, damage, folder):
    """A damaged file of a source: what is given to a converter."""
    key = next(key for key in reversed(source.state) if key.endswith(KEYS[source.origin]))
    match damage:
        case "payload":
            return source.write(folder, {**source.state, key: Payload(folder / "ran")})[0]
        case "truncated":
            path, file = source.write(folder, source.state)
            file.write_bytes(file.read_bytes()[: file.stat().st_size * 6 // 10])
            return path
        case "a key missing":
            return source.write(folder, {name: value for name, value in source.state.items() if name != key})[0]
        case "a key too many":
            return source.write(folder, {**source.state, "extra.weight": torch.ones(1)})[0]
        case "another architecture":
            return source.write(folder, {"layers.0.weight": torch.ones(2, 2), "layers.0.bias": torch.ones(2)})[0]
        case "half precision":
            return source.write(folder, {name: half(value) for name, value in source.state.items()})[0]
        case "sharded":
            return source.write_shards(folder)
    return source.write(folder, source.state)[0]


def half(value):
    """The value in half precision; tables of the 1000 times of a schedule stay as they are, as in a mixed training."""
    return value.half() if value.is_floating_point() and value.shape[:1] != (1000,) else value


# What the error names, None for a file that is read; by origin where it is another one.
DAMAGES = {
    "none": None,
    "payload": r"its pickle asks for (posix|nt)\.system",
    "truncated": r"is truncated|is a damaged safetensors file|the pickle is damaged",
    "a key missing": r"1 keys missing \(.*bias\)",
    "a key too many": r"1 keys not expected \(extra\.weight\)",
    "another architecture": r"does not fit|is missing",
    "half precision": None,
    "sharded": None,
}
OTHERS = {
    ("ldm", "a key missing"): r"'model_ema\.diffusion_modelout2bias' is missing in its moving average",
    ("ldm", "a key too many"): r"key 'extra\.weight' is of no part of latent diffusion",
    ("ldm", "another architecture"): r"it has no model\.diffusion_model\.\* keys",
    ("lucidrains", "a key missing"): r"init_conv\.weight or final_conv\.weight is missing",
    ("lucidrains", "a key too many"): r"key 'extra\.weight' is not of GaussianDiffusion",
    ("lucidrains", "another architecture"): r"key 'layers\.0\.weight' is not of GaussianDiffusion",
    # These files are more than a state dict, which alone is put into shards.
    ("lucidrains", "sharded"): r"is missing or not expected",
    ("edm", "sharded"): r"is neither a pickle nor a torch file",
    ("safetensors", "sharded"): r"its metadata have no etsdm\.denoiser",
}
# `etsdm.wrap`, which diagnoses folders of diffusers, reads them by diffusers' own classes.
WRAPPED = {
    "payload": r"holds diffusion_pytorch_model\.bin, a pickle",
    "truncated": r"diffusers cannot load it",
    "a key missing": r"1 keys of UNet2DModel missing in its weights",
    "a key too many": r"1 keys of UNet2DModel unexpected in its weights, 'extra\.weight'",
    "another architecture": r"keys of UNet2DModel missing in its weights",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("origin", FIELDS)
def test_files_are_read_or_named_before_anything_runs(sources, tmp_path, origin, damage):
    path = changed(sources[origin], damage, tmp_path)
    message = OTHERS.get((origin, damage), DAMAGES[damage])
    with outcome(message, path):
        report = convert(origin, path, tmp_path / "out", Options(model=FIELDS[origin]))
        assert ("float16" in report.dtypes) == (damage == "half precision")
    assert (tmp_path / "out").exists() == (message is None)
    if origin == "diffusers":
        message = WRAPPED.get(damage)
    with outcome(EXTERNAL if origin == "lucidrains" and message is None else message, path):
        opened = open_model(path, model=FIELDS[origin], origin=None if path.is_dir() else origin)
        assert all(parameter.isfinite().all() for parameter in opened.parameters())
    assert not (tmp_path / "ran").exists()


@contextmanager
def outcome(message, path):
    """Context in which an error with this message and path is expected, or none."""
    if message is None:
        yield
        return
    with pytest.raises((CheckpointError, IntegrityError), match=rf"^{re.escape(str(path))}.*: .*{message}"):
        yield


@pytest.mark.parametrize("origin", FIELDS)
def test_the_commands_read_a_file_of_every_origin(sources, tmp_path, origin):
    path = changed(sources[origin], "none", tmp_path)
    fields = [f"{key}={json.dumps(value)}" for key, value in FIELDS[origin].items()]
    done = run("convert", origin, path, *fields, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "equal to the source's bit by bit" in done.stdout
    options = [] if origin == "diffusers" else ["--origin", origin]
    done = run("diagnose", path, *fields, *options, "--images", 2, "--fine", 1, "--coarse", 2, "--json")
    if origin == "lucidrains":
        assert (done.returncode, done.stdout) == (2, "")
        assert "model: holds the weights of an external network" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    model = json.loads(done.stdout)["model"]
    expected = made(origin, mapped=False)
    assert (model["schedule"], model["target"]) == (expected.schedule.model_dump(mode="json"), expected.target.model_dump(mode="json"))
