"""Every file of a run's folder, damaged: refused, done again, or without effect; never a traceback, never other numbers."""

import json
import re
import shutil
from pathlib import Path

import pytest

import etsdm
from etsdm.errors import EtsdmError
from etsdm.report.contents import gather

TINY = Path(__file__).parents[1] / "recipes" / "tiny.yaml"
SMALL = (
    "training.images=96",
    "training.log_every=32",
    "training.checkpoint_every=48",
    "sampling.n=6",
    "sampling.batch_size=4",
    "evaluation.metrics=[{type: lipschitz, images: 2, stop: 12}, recognition]",
    "compute.jobs=1",
)
ARM, OTHER = "e-tsdm", "baseline"


def experiment(out):
    return etsdm.build(TINY, *SMALL, out=out)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished experiment of two arms."""
    out = tmp_path_factory.mktemp("whole")
    experiment(out).run()
    return out


def training(out, arm):
    """Folder of an arm's training, relative to the experiments."""
    return (out / "tiny" / arm / json.loads((out / "tiny" / arm / "run.json").read_text())["training"]).resolve().relative_to(out.resolve())


# By name, as the name of the training's folder is a digest: `*` is that of the arm.
FILES = [
    "experiment.json",
    "report.html",
    *(f"{ARM}/{name}" for name in ("recipe.yaml", "run.json", "values/lipschitz-*.json", "values/default/recognition.json")),
    *(f"{ARM}/samples/default/{name}" for name in ("00000000-00000004.safetensors", "00000004-00000006.safetensors")),
    *(f"{ARM}/samples/default/{name}" for name in ("grid.png", "stage.json")),
    *(f"training/{name}" for name in ("recipe.yaml", "environment.json", "log.jsonl", "stage.json")),
    *(
        f"training/checkpoints/{seen:012d}/{name}"
        for seen in (64, 96)
        for name in ("denoiser.json", "weights.safetensors", "training.json", "training.safetensors")
    ),
]


def find(out, file, arm=ARM):
    """The path of a file of `FILES`, of either arm."""
    name = file.replace(ARM, arm)
    if file.startswith("training/"):
        return out / training(out, arm) / name.removeprefix("training/")
    [path] = (out / "tiny").glob(name)
    return path


def flip(path, whole, file):
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 4
    path.write_bytes(content)


def first_digit(path, whole, file):
    """Another number in a record, and other text elsewhere."""
    content = path.read_bytes()
    at = next((i for i, byte in enumerate(content) if chr(byte) in "12345678" and content[i - 1 : i] == b" "), len(content) // 2)
    path.write_bytes(content[:at] + b"9" + content[at + 1 :])


def another(path, whole, file):
    """The same file of the other arm."""
    shutil.copy(find(whole, file, OTHER) if file not in ("experiment.json", "report.html") else find(whole, f"{ARM}/run.json"), path)


DAMAGES = {
    "cut": lambda path, *_: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path, *_: path.write_bytes(b""),
    "flip": flip,
    "number": first_digit,
    "another": another,
    "list": lambda path, *_: path.write_text("[1, 2]"),
    "mapping": lambda path, *_: path.write_text('{"format": 2, "digest": 5, "values": {"a": 1}}'),
    "removed": lambda path, *_: path.unlink(),
    "folder": lambda path, *_: (path.unlink(), path.mkdir()),
}


def numbers(out):
    """All that an experiment's folder gives: results, samples and weights of both arms."""
    done = experiment(out)
    found = {}
    for run in done.runs:
        found[run.arm, "results"] = run.results
        found[run.arm, "samples"] = run.samples.batch(range(6)).pixels.numpy().tobytes()
        weights = etsdm.load(run.folder.path).state_dict()
        found[run.arm, "weights"] = b"".join(value.numpy().tobytes() for value in weights.values())
        found[run.arm, "denoiser"] = str(etsdm.load(run.folder.path).spec)
    found["losses"] = {
        (arm, seed): [record["loss"] for record in run.log] for arm, runs in gather(done.folder).runs.items() for seed, run in runs.items()
    }
    return found


def attempt(do):
    """A result, or the message with which it was refused."""
    try:
        return do(), None
    except EtsdmError as error:
        return None, str(error)


@pytest.fixture(scope="module")
def before(whole):
    return numbers(whole)


def check_damage(whole, before, tmp_path, file, damage):
    out = tmp_path / "runs"
    shutil.copytree(whole, out)
    path = find(out, file)
    DAMAGES[damage](path, whole, file)

    # Readers, before anything mends the folder.
    loaded, _ = attempt(lambda: etsdm.load(out / "tiny" / ARM))
    if loaded is not None:
        assert str(loaded.spec) == before[ARM, "denoiser"]
        assert b"".join(value.numpy().tobytes() for value in loaded.state_dict().values()) == before[ARM, "weights"]
    shown, _ = attempt(lambda: gather(experiment(out).folder))
    for arm, runs in shown.runs.items() if shown else ():
        assert {str(key): result for key, result in runs[0].results.items()} == before[arm, "results"]
        assert [record["loss"] for record in runs[0].log] == before["losses"][arm, 0]

    # The same command: done again, or refused with a mend that works.
    if file != "report.html":
        (out / "tiny/report.html").unlink()  # so that all that it shows is read
    _, refusal = attempt(lambda: experiment(out).run())
    if refusal is not None:
        assert str(path) in refusal or str(path.parent) in refusal
        assert "remove" in refusal
        assert "\n" not in refusal
        named = [Path(found) for found in re.findall(r"remove (/\S+)", refusal)] or [path]
        for wrong in [*named, *([path.with_name("stage.json")] if "stage.json beside it" in refusal else [])]:
            shutil.rmtree(wrong) if wrong.is_dir() else wrong.unlink(missing_ok=True)
        experiment(out).run()
    assert numbers(out) == before
    assert experiment(out).report_is_current()
    assert "<h1>" in (out / "tiny/report.html").read_text()


CASES = [(file, damage) for file in FILES for damage in DAMAGES]
QUICK = 10  # nearly every file meets one damage in the quick tests, the others in the slow ones


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("file", "damage"), [case for i, case in enumerate(CASES) if i % QUICK == 0])
def test_a_damaged_file_gives_no_other_numbers(whole, before, tmp_path, file, damage):
    check_damage(whole, before, tmp_path, file, damage)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("file", "damage"), [case for i, case in enumerate(CASES) if i % QUICK])
def test_no_damage_of_any_file_gives_other_numbers(whole, before, tmp_path, file, damage):
    check_damage(whole, before, tmp_path, file, damage)


def test_a_damaged_latest_checkpoint_is_kept_and_training_goes_on_from_the_one_before(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "runs")
    out = tmp_path / "runs"
    weights = find(out, "training/checkpoints/000000000096/weights.safetensors")
    expected = weights.read_bytes()
    flip(weights, whole, "")
    message = r"000000000096: this checkpoint is damaged, and kept as damaged-000000000096; training goes on from 000000000064 \(.*sha256"
    with pytest.warns(UserWarning, match=message):
        experiment(out).train()
    assert weights.read_bytes() == expected
    assert (weights.parent.with_name("damaged-000000000096") / "training.safetensors").exists()


def test_without_a_whole_checkpoint_nothing_is_trained_or_removed(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "runs")
    out = tmp_path / "runs"
    files = [find(out, f"training/checkpoints/{seen:012d}/denoiser.json") for seen in (64, 96)]
    for file in files:
        file.write_text(file.read_text().replace('"n": 5', '"n": 7'))
    with pytest.raises(EtsdmError, match=r"96/denoiser\.json: was changed .* no earlier checkpoint is whole: .*, remove .*checkpoints to"):
        experiment(out).train()
    assert all(file.exists() for file in files)
    with pytest.raises(EtsdmError, match=r"denoiser\.json: was changed or damaged"):
        experiment(out).denoiser  # noqa: B018
