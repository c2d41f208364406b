import hashlib
import json
import shutil

import pytest

from etsdm.errors import IntegrityError
from etsdm.runs.folder import ExperimentFolder, RunFolder, TrainingFolder
from etsdm.runs.records import Manifest, StageRecord, ValueEntry
from etsdm.storage.files import digest_of


@pytest.fixture
def folder(tmp_path):
    return TrainingFolder(tmp_path / "training")


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert digest_of({"a": 1, "b": [2.5, None]}) == digest_of({"b": [2.5, None], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})
    # sha256 of the two characters {}, by any other program.
    assert digest_of({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_a_finished_stage_is_recorded_and_replaced(folder):
    assert folder.finished() is None
    folder.finish(StageRecord(digest="a", seconds=1.0, facts={"images_per_second": 3.0}))
    last = StageRecord(digest="b", seconds=1.5, facts={}, log=[{"images_seen": 64, "loss": 0.5}])
    folder.finish(last)
    assert folder.finished() == last


def test_a_manifest_comes_back_and_leads_to_the_training(tmp_path):
    run = RunFolder(tmp_path / "digits" / "a")
    assert (run.manifest(), run.training()) == (None, None)
    values = [
        ValueEntry(metric="k", sampling=None, file="values/k.json", digest="1"),
        ValueEntry(metric="fid", sampling="fast", file="values/fast/fid.json", digest="2"),
    ]
    manifest = Manifest(
        arm="a",
        seed=0,
        experiment="digits",
        training="../trainings/0123456789ab",
        recipe=hashlib.sha256(b"seed: 0").hexdigest(),
        train="0123456789abcdef",
        samples={"fast": "3"},
        values=values,
    )
    run.write("seed: 0", manifest)
    assert run.recipe() == "seed: 0"
    assert run.manifest() == manifest
    assert run.training().path == tmp_path / "digits/trainings/0123456789ab"
    other = RunFolder(tmp_path / "digits" / "b")
    shutil.copytree(run.path, other.path)
    with pytest.raises(IntegrityError, match=r"b/run\.json: belongs to arm 'a', seed 0, not to this folder; remove it and run"):
        other.manifest()


def test_a_training_is_named_by_its_digest(tmp_path):
    experiment = ExperimentFolder(tmp_path)
    training = experiment.training("0123456789abcdef")
    assert training.path == tmp_path / "trainings/0123456789ab"
    assert experiment.trainings() == []
    training.log({"images_seen": 1})
    assert [one.path for one in experiment.trainings()] == [training.path]


def test_a_training_is_not_trained_twice_at_once(folder):
    with folder.locked(), pytest.raises(IntegrityError, match="another process trains this; wait"), folder.locked():
        pass


@pytest.mark.parametrize("record", [{"name": "a", "arms": ["x"], "seeds": [0]}, {"layout": 2}, {"format": 2}])
def test_an_experiment_of_another_layout_is_refused_with_the_mend(tmp_path, record):
    (tmp_path / "experiment.json").write_text(json.dumps(record))
    with pytest.raises(IntegrityError, match=r"experiment\.json: format .* is not known.* another folder with --out, or remove this one$"):
        ExperimentFolder(tmp_path).record()


def test_a_log_starts_again_with_the_records_of_its_checkpoint(folder):
    for seen in (10, 20, 30):
        folder.log({"images_seen": seen})
    folder.restart_log([{"images_seen": 10}, {"images_seen": 20}])
    folder.log({"images_seen": 25})
    assert (folder.path / "log.jsonl").read_text() == '{"images_seen": 10}\n{"images_seen": 20}\n{"images_seen": 25}\n'


def test_a_damaged_checkpoint_is_set_aside_and_is_none(folder):
    names = []
    for _ in range(2):
        folder.checkpoint_at(30_000).mkdir(parents=True)
        names.append(folder.set_aside(folder.checkpoint_at(30_000)).name)
    assert names == ["damaged-000000030000", "damaged-000000030000-2"]
    assert folder.all_checkpoints() == []


def test_the_latest_checkpoints_are_kept_and_unfinished_ones_removed(folder):
    for seen in (100, 2_000, 30_000):
        folder.checkpoint_at(seen).mkdir(parents=True)
    (folder.checkpoints / ".000000040000.1234.tmp").mkdir()
    assert folder.latest_checkpoint() == folder.checkpoint_at(30_000)
    with folder.locked():
        folder.keep_checkpoints(2)
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == ["000000002000", "000000030000"]


def test_a_damaged_record_names_the_file_and_the_mend(folder):
    folder.path.mkdir()
    (folder.path / "stage.json").write_text("{")
    with pytest.raises(IntegrityError, match=r"stage\.json: is no JSON .* remove it and run the recipe again"):
        folder.finished()


def test_the_first_seed_lives_in_the_arms_folder_and_others_below(tmp_path):
    experiment = ExperimentFolder(tmp_path)
    assert experiment.run("a", 4, 4).path == tmp_path / "a"
    assert experiment.run("a", 5, 4).path == tmp_path / "a" / "seed-5"
